"""Result folders as stock nnU-Net's own trainer writes them, with networks small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

import lnauto

DATASET = "Dataset950_Stock"
LABELS = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "numTraining": 3, "file_ending": ".nii.gz"}
STAGES = 3
PATCH = [16, 16, 16]


def architecture(residual: bool) -> dict[str, Any]:
    """ResEnc-M's or the plain U-Net's as stock planners write it, with fewer and narrower stages."""
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    depth = {"n_blocks_per_stage": [1, 3, 4]} if residual else {"n_conv_per_stage": [2] * STAGES}
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": STAGES,
            "features_per_stage": [4, 8, 8],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * STAGES,
            "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
            **depth,
            "n_conv_per_stage_decoder": [1 if residual else 2] * (STAGES - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def stock_plans(residual: bool = True) -> dict[str, Any]:
    """Plans with the configurations stock nnU-Net makes, the small one in full."""
    fullres = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": PATCH,
        "median_image_size_in_voxels": [32.0, 32.0, 32.0],
        "spacing": [2.0, 1.5, 1.5],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": architecture(residual),
        "batch_dice": False,
    }
    intensities = {"mean": 60.0, "std": 30.0, "percentile_00_5": -50.0, "percentile_99_5": 180.0}
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetResEncUNetMPlans" if residual else "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 1.5, 1.5],
        "original_median_shape_after_transp": [32, 32, 32],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "2d": {**fullres, "patch_size": PATCH[1:], "spacing": [1.5, 1.5]},
            "3d_lowres": {**fullres, "spacing": [4.0, 3.0, 3.0], "next_stage": "3d_cascade_fullres"},
            "3d_fullres": fullres,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "experiment_planner_used": "nnUNetPlannerResEncM" if residual else "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {**intensities, "median": 60.0, "min": -100.0, "max": 300.0}},
    }


def train_stock(results: Path, plans: dict[str, Any], fold: int | str = 0, configuration: str = "3d_fullres") -> Path:
    """One epoch of one step with stock nnU-Net's trainer; the result folder it leaves."""
    from lnauto.compat.training import nnUNetTrainer

    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as elsewhere:
        cases = Path(elsewhere) / DATASET / "nnUNetPlans_3d_fullres"  # stock looks which kind of file lies there
        cases.mkdir(parents=True)
        (cases / "case.b2nd").touch()
        patch.setenv("nnUNet_raw", elsewhere)
        patch.setenv("nnUNet_preprocessed", elsewhere)
        patch.setenv("nnUNet_results", str(results))
        given = {**json.loads(json.dumps(plans)), "continue_training": False}
        trainer = nnUNetTrainer(given, configuration, fold, LABELS, torch.device("cpu"))
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        _train_one_epoch(trainer)
        trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    model = Path(trainer.output_folder_base)
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(LABELS))
    return model


def _train_one_epoch(trainer: Any) -> None:
    target = (torch.rand(2, 1, *PATCH) > 0.9).float()
    targets = [target[..., ::step, ::step, ::step] for step in (1, 2, 4)[: STAGES - 1]]
    trainer.logger.log("epoch_start_timestamps", 0.0, 0)
    trainer.on_train_epoch_start()
    loss = trainer.train_step({"data": torch.randn(2, 1, *PATCH), "target": targets})
    trainer.on_train_epoch_end([loss])
    counts = {"tp_hard": np.array([3.0]), "fp_hard": np.array([1.0]), "fn_hard": np.array([2.0])}
    trainer.on_validation_epoch_end([{"loss": loss["loss"], **counts}])
    trainer._best_ema = trainer.logger.get_value("ema_fg_dice", step=-1)  # as `on_epoch_end` does, which also draws a picture


def stock_masks(model: Path | str, scans: Path | str, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stock nnU-Net's predictor makes of fold 0 of a model of ours, whose trainer it finds by the shim. Its command, which
    starts processes besides, is run in tests/test_prediction.py."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    monkeypatch.setenv("nnUNet_extTrainer", str(lnauto.EXT_TRAINER_DIR))
    predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), ("0",))
    Path(out).mkdir()
    predictor.predict_from_files_sequential(str(scans), out)
