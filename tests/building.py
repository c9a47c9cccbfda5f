"""Small data sets that tests are run on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lnauto.paths import VARIABLES


def write_image(path: Path, array: np.ndarray, spacing: tuple[float, float, float] = (2.0, 1.5, 1.5)) -> None:
    """Write a (z, y, x) array with (z, y, x) spacing, away from the origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((-12.0, 7.5, 30.0))
    sitk.WriteImage(image, str(path))


def write_balls(folder: Path, cases: int = 6, side: int = 32, seed: int = 0, test_cases: int = 2) -> None:
    """A raw data set of noisy volumes with three bright balls each: learnt within seconds."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"))
    for number in range(cases + test_cases):
        image = rng.normal(0, 60, (side,) * 3).astype(np.float32)
        label = np.zeros((side,) * 3, np.uint8)
        for _ in range(3):
            centre, radius = rng.uniform(6, side - 6, 3), rng.uniform(2.5, 4.5)
            label[np.linalg.norm(grid - centre[:, None, None, None], axis=0) <= radius] = 1
        image += 200 * label
        part = "Tr" if number < cases else "Ts"
        write_image(folder / f"images{part}" / f"ball_{number:02d}_0000.nii.gz", image)
        write_image(folder / f"labels{part}" / f"ball_{number:02d}.nii.gz", label)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "node": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))


PICTURE, SPACING = 40, (2.5, 2.0, 2.0)


def write_pictures(
    folder: Path, drawn: float, *, cases: int = 10, channels: int = 1, seed: int = 0, ignore: bool = False, empty: float = 0.0
) -> float:
    """Balls among bars of the same brightness; of the balls the largest are drawn. Returns the share that is."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(PICTURE),) * 3, indexing="ij")).astype(float)
    radii, places = [], []
    for _ in range(cases):
        centres: list[np.ndarray] = []
        while len(centres) < 6:
            centre = rng.uniform(6, PICTURE - 6, 3)
            if all(np.linalg.norm(centre - other) > 12 for other in centres):
                centres.append(centre)
        places.append(centres)
        radii.append(rng.uniform(2.2, 5.0, 6))
    noisy = np.concatenate(radii) + rng.normal(0, 1.0, 6 * cases)
    chosen = (noisy >= np.quantile(noisy, 1 - drawn)).reshape(cases, 6)
    chosen[rng.permutation(cases)[: round(empty * cases)]] = False
    for number in range(cases):
        bright, label = np.zeros((PICTURE,) * 3), np.zeros((PICTURE,) * 3, np.uint8)
        for _ in range(2):  # bars
            y, x = rng.integers(4, PICTURE - 4, 2)
            bright[:, y - 2 : y + 2, x - 2 : x + 2] = 1
        for centre, radius, wanted in zip(places[number], radii[number], chosen[number], strict=True):
            ball = np.linalg.norm(grid - centre[:, None, None, None], axis=0) <= radius
            bright[ball] = 1
            label[ball & wanted] = 1
        for channel in range(channels):
            image = (100 * (1 - 0.5 * channel) * bright + rng.normal(0, 12, bright.shape)).astype(np.float32)
            write_image(folder / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz", image, SPACING)
        write_image(folder / "labelsTr" / f"case_{number}.nii.gz", label, SPACING)
    labels = {"background": 0, "node": 1} | ({"ignore": 2} if ignore else {})
    names = {str(channel): name for channel, name in enumerate(("CT", "PET")[:channels])}
    description = {"channel_names": names, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return float(chosen.mean())


STANDARD = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 320, 320],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3]] + [[3, 3, 3]] * 5,
        "strides": [[1, 1, 1], [1, 2, 2]] + [[2, 2, 2]] * 4,
        "n_conv_per_stage": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
"""nnU-Net's plain network of six stages, as planned for thick slices: 31,113,098 numbers with one channel and two classes."""


def copied(planned: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A planned data set of one's own, which the commands find, and beside which the test runs."""
    for name in ("raw", "preprocessed"):
        shutil.copytree(planned / name, to / name)
    for name, variable in VARIABLES.items():
        monkeypatch.setenv(variable, str(to / name))
    monkeypatch.chdir(to)
    return to


def write_random_model(planned: Path, folder: Path, folds: tuple[str, ...] = ("0", "1")) -> Path:
    """A model folder of a planned data set with random weights, and with what a training leaves besides them."""
    from lnauto.compat.plans import PlansManager
    from lnauto.inference.model import FINAL, build_network

    plans, description = (json.loads((planned / name).read_text()) for name in ("lnautoPlans.json", "dataset.json"))
    for fold in folds:
        torch.manual_seed(int(fold))
        network = build_network(PlansManager(plans), "3d_fullres", description, deep_supervision=False)
        made = {"configuration": "3d_fullres", "plans": plans, "dataset_json": description, "fold": int(fold)}
        content = {"network_weights": network.state_dict(), "init_args": made, "trainer_name": "LNTrainer"}
        left = {"optimizer_state": {"momentum": torch.ones(1000)}, "lnauto": {"history": ["ball_00"]}}
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save({**content, **left, "inference_allowed_mirroring_axes": [2]}, folder / f"fold_{fold}" / FINAL)
    for name, content in (("plans.json", plans), ("dataset.json", description)):
        (folder / name).write_text(json.dumps(content))
    return folder


def random_logits(seed: int, classes: int = 3, size: tuple[int, ...] = (4, 5, 6), batch: int = 2) -> torch.Tensor:
    return 2 * torch.randn(batch, classes, *size, generator=torch.Generator().manual_seed(seed))


def put_beside(trained: Path, other: Path) -> None:
    """Give another checkpoint the weights of a trained one, each changed by some hundredths."""
    weights = torch.load(trained, weights_only=True)["network_weights"]
    draws = torch.Generator().manual_seed(0)
    beside = {name: value * (1 + 0.03 * torch.randn(value.shape, generator=draws)) for name, value in weights.items()}
    torch.save({**torch.load(other, weights_only=True), "network_weights": beside}, other)
