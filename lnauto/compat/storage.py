"""nnU-Net's preprocessed cases on disk."""

from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

__all__ = ["comp_blosc2_params", "load_pickle", "nnUNetDatasetBlosc2", "write_pickle"]
