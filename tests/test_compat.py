"""What lnauto relies on inside nnU-Net. When a new release breaks lnauto, it breaks here first."""

from __future__ import annotations

import inspect
import pickle
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import nnunetv2
import numpy as np
import pytest
import torch
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from lnauto.compat import (
    images,
    inference,
    launch,
    names,
    networks,
    normalization,
    planning,
    plans,
    resampling,
    storage,
    training,
)

# where nnU-Net looks for what a plan names
PLACES = {
    "preprocessor_name": "preprocessing",
    "resampling_fn_data": "preprocessing/resampling",
    "resampling_fn_seg": "preprocessing/resampling",
    "resampling_fn_probabilities": "preprocessing/resampling",
    "normalization_schemes": "preprocessing/normalization",
    "image_reader_writer": "imageio",
    "label_manager": "utilities/label_handling",
}


def dotted(folder: str) -> str:
    return f"nnunetv2.{folder.replace('/', '.')}"


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_version_is_one_that_was_read() -> None:
    major, minor, *_ = version("nnunetv2").split(".")
    assert (int(major), int(minor)) == (2, 8)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (training.nnUNetTrainer.__init__, ["self", "plans", "configuration", "fold", "dataset_json", "device"]),
        (
            training.nnUNetTrainer.build_network_architecture,
            ["plans_manager", "configuration_manager", "num_input_channels", "num_output_channels", "enable_deep_supervision"],
        ),
        (training.nnUNetTrainer.initialize, ["self"]),
        (training.nnUNetTrainer.validation_step, ["self", "batch"]),
        (training.nnUNetTrainer.perform_actual_validation, ["self", "save_probabilities"]),
        (training.nnUNetTrainer.set_deep_supervision_enabled, ["self", "enabled"]),
        (training.nnUNetTrainer._get_deep_supervision_scales, ["self"]),
        (training.nnUNetTrainer.get_tr_and_val_datasets, ["self"]),
        (training.nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size, ["self"]),
        (
            training.nnUNetTrainer.get_training_transforms,
            [
                "patch_size",
                "rotation_for_DA",
                "deep_supervision_scales",
                "mirror_axes",
                "do_dummy_2d_data_aug",
                "use_mask_for_norm",
                "is_cascaded",
                "foreground_labels",
                "regions",
                "ignore_label",
            ],
        ),
        (
            training.nnUNetTrainer.get_validation_transforms,
            ["deep_supervision_scales", "is_cascaded", "foreground_labels", "regions", "ignore_label"],
        ),
        (
            training.nnUNetDataLoader.__init__,
            [
                "self",
                "data",
                "batch_size",
                "patch_size",
                "final_patch_size",
                "label_manager",
                "oversample_foreground_percent",
                "sampling_probabilities",
                "pad_sides",
                "probabilistic_oversampling",
                "transforms",
            ],
        ),
        (training.nnUNetDataLoader.generate_train_batch, ["self"]),
        (
            networks.get_network_from_plans,
            [
                "arch_class_name",
                "arch_kwargs",
                "arch_kwargs_req_import",
                "input_channels",
                "output_channels",
                "allow_init",
                "deep_supervision",
            ],
        ),
        (planning.get_pool_and_conv_props, ["spacing", "patch_size", "min_feature_map_size", "max_numpool"]),
        (normalization.get_normalization_scheme, ["channel_name"]),
        (
            normalization.normalization_class("CTNormalization"),
            ["use_mask_for_norm", "intensityproperties", "target_dtype"],
        ),
        (normalization.normalization_class("ZScoreNormalization").run, ["self", "image", "seg"]),
        (resampling.recursive_find_resampling_fn_by_name, ["resampling_fn"]),
        (inference.compute_gaussian, ["tile_size", "sigma_scale", "value_scaling_factor", "dtype", "device"]),
        (inference.compute_steps_for_sliding_window, ["image_size", "tile_size", "tile_step_size"]),
        (
            inference.convert_predicted_logits_to_segmentation_with_correct_shape,
            [
                "predicted_logits",
                "plans_manager",
                "configuration_manager",
                "label_manager",
                "properties_dict",
                "return_probabilities",
                "num_threads_torch",
            ],
        ),
        (images.SimpleITKIO.read_images, ["self", "image_fnames"]),
        (images.SimpleITKIO.write_seg, ["self", "seg", "output_fname", "properties"]),
        (launch.setup_ddp, ["rank", "world_size"]),
        (launch.cleanup_ddp, []),
        (plans.PlansManager.get_configuration, ["self", "configuration_name"]),
        (plans.PlansManager.get_label_manager, ["self", "dataset_json", "kwargs"]),
        (plans.determine_num_input_channels, ["plans_manager", "configuration_or_config_manager", "dataset_json"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature(function: object, expected: list[str]) -> None:
    assert parameters(function) == expected


def test_a_network_is_found_by_its_name_wherever_it_lies() -> None:
    assert networks.find_architecture("ResidualEncoderUNet").__module__ == "dynamic_network_architectures.architectures.unet"
    assert networks.find_architecture("NoSuchNetwork") is None


@pytest.mark.parametrize(("key", "folder"), PLACES.items())
def test_what_a_plan_may_name_is_there(key: str, folder: str) -> None:
    package = files(nnunetv2)
    found = {name for name in names.ALLOWED[key] if recursive_find_python_class(f"{package}/{folder}", name, dotted(folder))}
    assert found == set(names.ALLOWED[key])
    assert set(PLACES) == set(names.ALLOWED)


def test_storage_takes_the_keywords_lnauto_gives() -> None:
    wanted = {"chunks", "blocks", "chunks_seg", "blocks_seg", "filters", "filters_seg"}
    assert wanted <= set(parameters(storage.nnUNetDatasetBlosc2.save_case))
    assert parameters(storage.nnUNetDatasetBlosc2.save_seg) == ["seg", "output_filename_truncated", "chunks_seg", "blocks_seg"]
    assert parameters(storage.write_pickle)[:2] == ["obj", "file"]
    assert parameters(storage.load_pickle)[:1] == ["file"]
    assert parameters(storage.comp_blosc2_params)[:3] == ["image_size", "patch_size", "bytes_per_pixel"]


def test_a_preprocessed_case_carries_the_properties_the_exporter_needs(prepared: Path) -> None:
    folder = prepared / "preprocessed" / "Dataset901_Balls" / "lnautoPlans_3d_fullres"
    properties = pickle.loads((folder / "ball_00.pkl").read_bytes())
    needed = {
        "spacing",
        "sitk_stuff",
        "shape_before_cropping",
        "bbox_used_for_cropping",
        "shape_after_cropping_and_before_resampling",
        "class_locations",
    }
    assert needed <= set(properties)
    assert set(properties["sitk_stuff"]) == {"spacing", "origin", "direction"}
    assert set(properties["class_locations"]) == {1}
    assert properties["class_locations"][1].shape[1] == 4


def test_stock_finds_the_case_files(prepared: Path) -> None:
    folder = str(prepared / "preprocessed" / "Dataset901_Balls" / "lnautoPlans_3d_fullres")
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    assert infer_dataset_class(folder) is storage.nnUNetDatasetBlosc2
    assert sorted(storage.nnUNetDatasetBlosc2.get_identifiers(folder)) == [f"ball_{number:02d}" for number in range(6)]


def test_stock_training_constructor_pops_continue_training_and_writes_init_args(balls: Path) -> None:
    from lnauto.files import read_json
    from lnauto.trainers.lntrainer import LNTrainer

    base = balls / "preprocessed" / "Dataset901_Balls"
    plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
    trainer = LNTrainer(plan, "3d_fullres", 0, description, torch.device("cpu"))
    assert "continue_training" not in plan
    assert set(trainer.my_init_kwargs) == {"plans", "configuration", "fold", "dataset_json", "device"}
    for name in (
        "num_input_channels",
        "is_cascaded",
        "label_manager",
        "output_folder",
        "output_folder_base",
        "log_file",
        "is_ddp",
    ):
        assert hasattr(trainer, name)


def test_the_tile_weights_are_positive_and_highest_in_the_middle() -> None:
    weights = inference.compute_gaussian((8, 8, 8), 1.0 / 8, 10, torch.float32, torch.device("cpu")).numpy()
    assert weights.min() > 0
    assert np.unravel_index(weights.argmax(), weights.shape) == (4, 4, 4)


def test_nnunet_limits_threads_by_the_name_that_is_exchanged() -> None:
    stock = training.nnUNetDataLoader.generate_train_batch
    assert "threadpool_limits" in stock.__code__.co_names
    assert not stock.__closure__
    assert not stock.__defaults__
    assert not stock.__kwdefaults__
    assert training.generate_train_batch.__code__ is stock.__code__


def test_what_nnunet_applies_now_and_then_is_what_changes_intensities() -> None:
    stock = training.nnUNetTrainer.get_training_transforms((16, 16, 16), (-0.5, 0.5), None, (0, 1, 2), False)
    now_and_then = {type(each.transform).__name__ for each in stock.transforms if type(each).__name__ == "RandomTransform"}
    assert now_and_then == {
        "GaussianNoiseTransform",
        "GaussianBlurTransform",
        "MultiplicativeBrightnessTransform",
        "ContrastTransform",
        "SimulateLowResolutionTransform",
        "GammaTransform",
    }
    kept = [type(each).__name__ for each in training.without_intensity(stock).transforms]
    assert len(kept) == 3
    assert kept[:2] == ["SpatialTransform", "MirrorTransform"]


def test_nnunet_reads_its_paths_when_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.paths import nnUNet_results

    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert str(nnUNet_results) == str(tmp_path)
