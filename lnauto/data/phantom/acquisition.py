"""The scanner's part: field of view, spacing, contrast phase, and what blur and noise do to the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lnauto.data.phantom.canvas import Floats

Range = tuple[float, float]

FULL_FIELD = 96  # from this many voxels on, the whole chest is in the field of view
VOXEL_MM = (3.2, 3.7)  # in-plane, where the field of view is the smaller one
CHEST_LENGTH_MM = (225.0, 265.0)
SLICE_MM = (2.6, 3.9)


@dataclass(frozen=True)
class Phase:
    """Mean HU of what contrast medium changes."""

    aorta: float
    pulmonary: float
    vein: float
    collateral: float  # small veins fill late
    left_heart: float
    right_heart: float
    myocardium: float
    muscle: float
    node: float
    gullet: float
    liver: float
    spleen: float
    thyroid: float


PHASES = {
    "plain": Phase(50, 50, 50, 49, 50, 50, 52, 60, 31, 47, 62, 53, 110),
    "venous": Phase(155, 150, 152, 130, 155, 150, 112, 64, 88, 58, 112, 118, 170),
    "arterial": Phase(310, 220, 130, 105, 310, 190, 120, 60, 72, 50, 76, 110, 190),
    "pulmonary": Phase(150, 400, 330, 95, 210, 380, 90, 57, 62, 46, 64, 72, 150),
    "delayed": Phase(108, 106, 108, 104, 108, 106, 92, 64, 80, 58, 94, 94, 130),
}


@dataclass(frozen=True)
class Style:
    """A family of scans, as one hospital makes them. The ranges are drawn from per case."""

    phases: Mapping[str, float]
    noise_hu: Range
    noise_grain: Range  # of the noise, in voxels
    blur_mm: Range
    sharpening: Range
    node_texture_hu: Range
    centres: tuple[str, str]  # the first scans mostly without contrast medium


STYLES = {
    "a": Style(
        {"plain": 0.45, "venous": 0.35, "arterial": 0.2}, (5, 11), (0.45, 0.7), (0.5, 1.1), (0.0, 0.15), (2, 6), ("A1", "A2")
    ),
    "b": Style(
        {"plain": 0.3, "delayed": 0.35, "pulmonary": 0.35}, (11, 20), (0.7, 1.1), (0.3, 0.8), (0.3, 0.6), (7, 14), ("B1", "B2")
    ),
}


@dataclass(frozen=True)
class Scan:
    """One scan's settings; (z, y, x) throughout, but the origin, which is SimpleITK's (x, y, z)."""

    phase_name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    body_scale: float
    noise_hu: float
    noise_grain: float
    blur_mm: float
    sharpening: float
    node_texture_hu: float
    table: bool
    origin: tuple[float, float, float]

    @property
    def phase(self) -> Phase:
        return PHASES[self.phase_name]

    @property
    def start(self) -> tuple[float, float, float]:
        """Where the first voxel lies, (x, y, z) in mm from the carina; the middle of the volume is that of what is to be seen."""
        ahead = 12.0 if self.shape[2] >= FULL_FIELD else -6.0
        below = -16.0 if self.shape[2] >= FULL_FIELD else -8.0
        middle = (0.0, ahead, below)
        x, y, z = (m - s * (n - 1) / 2 for m, s, n in zip(middle, self.spacing[::-1], self.shape[::-1], strict=True))
        return x, y, z

    @classmethod
    def draw(cls, rng: np.random.Generator, style: Style, size: int) -> Scan:
        """Settings of a scan with `size` rows and columns.

        From 96 voxels on the field of view holds the chest and the voxels shrink as the size grows; below that the voxels stay
        as they are and the field of view closes in on the mediastinum.
        """
        field = rng.uniform(300.0, 360.0)
        in_plane = field / size if size >= FULL_FIELD else rng.uniform(*VOXEL_MM)
        finer = np.sqrt(min(1.0, FULL_FIELD / size))
        slice_mm = round(float(rng.uniform(*SLICE_MM) * finer), 2)
        slices = round(rng.uniform(*CHEST_LENGTH_MM) / slice_mm)
        if size <= FULL_FIELD:
            slices = int(np.clip(slices, -(-2 * size // 3), size))
        names = list(style.phases)
        return cls(
            phase_name=names[rng.choice(len(names), p=list(style.phases.values()))],
            shape=(slices, size, size),
            spacing=(slice_mm, round(in_plane, 4), round(in_plane, 4)),
            body_scale=float(field / 338 * rng.uniform(0.95, 1.02)),
            noise_hu=float(rng.uniform(*style.noise_hu)),
            noise_grain=float(rng.uniform(*style.noise_grain)),
            blur_mm=float(rng.uniform(*style.blur_mm)),
            sharpening=float(rng.uniform(*style.sharpening)),
            node_texture_hu=float(rng.uniform(*style.node_texture_hu)),
            table=bool(rng.random() < 0.7),
            origin=_origin(rng),
        )


def _origin(rng: np.random.Generator) -> tuple[float, float, float]:
    """Some scanners put the origin at the corner, others anywhere."""
    shifted = rng.random() < 0.7
    x, y, z = (float(round(value, 1)) for value in rng.uniform([-220, -220, -900], [-140, -120, 300]))
    return (x, y, z) if shifted else (0.0, 0.0, 0.0)


def scanned(rng: np.random.Generator, hu: Floats, scan: Scan) -> NDArray[np.int16]:
    """The picture the scanner makes of the drawn HU: blurred, noisy, clipped to what CT stores."""
    sigma = [scan.blur_mm / spacing for spacing in scan.spacing]
    picture = gaussian_filter(hu, sigma, truncate=3)
    if scan.sharpening > 0.05:
        picture += np.float32(scan.sharpening) * (picture - gaussian_filter(picture, [0, 0.8, 0.8], truncate=3))
    picture += noise(rng, hu.shape, scan)
    return np.clip(np.rint(picture), -1024, 3071).astype(np.int16)


def noise(rng: np.random.Generator, shape: tuple[int, ...], scan: Scan) -> Floats:
    """Grainy in-plane, independent from slice to slice, stronger at the level of the shoulders."""
    grain = rng.standard_normal(shape, np.float32)
    grain = gaussian_filter(grain, [0, scan.noise_grain, scan.noise_grain], truncate=3)
    grain *= scan.noise_hu / max(float(grain.std()), 1e-6)
    z = scan.start[2] + np.arange(shape[0]) * scan.spacing[0]
    shoulders = 1 + 0.8 / (1 + np.exp(-(z - 85) / 8))
    return grain * shoulders.astype(np.float32)[:, None, None]
