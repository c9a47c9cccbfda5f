"""nnU-Net's preprocessed cases on disk."""

from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

__all__ = ["comp_blosc2_params", "nnUNetDatasetBlosc2"]
