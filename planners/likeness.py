"""Where un-drawn nodes may lie: places that look like the drawn nodes, and how much they do.

A classifier of voxels learns drawn against not drawn. Every case is judged by one that has not seen it, so a node's score does
not depend on whether the node itself was drawn. Peaks of the score are the candidates. All lengths are in units of a small drawn
node's radius, all intensities relative to those of drawn nodes: nothing here is about one modality or organ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, label, maximum_filter, uniform_filter
from skimage.segmentation import watershed
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array, label_components

Floats = NDArray[np.float32]

VOXELS_PER_RADIUS = 2.2  # of the grid everything is looked at on
MOST_VOXELS = 2_500_000
SCALES = (0.45, 0.9, 1.8, 3.6, 7.2)  # of smoothing
BOX_ABOVE = 2.0  # scales that two passes of a box stand in for, whose cost does not grow with them
SHARE_SCALES = (1.8, 4.0)
ASIDE = 1.8  # how far the neighbours lie whose intensity is looked at
INTENSITY_RANGE = (2, 98)  # percentiles of drawn voxels, smoothed; what lies outside is no candidate
CLIP = 3.0  # in widths of that range
FOLDS = 3
FEWEST_WITH_NODES = 4  # cases
PER_NODE, PER_CASE = 100, 4000  # voxels learnt from: drawn ones, others
PEAK_ABOVE = 0.01
RIDGE = 0.8  # two peaks are one candidate if the score between them does not fall below this part of the lower one
CORE = 0.75  # a candidate's size is the volume where the score is at least this part of its peak


@dataclass(frozen=True)
class Likeness:
    """Drawn nodes and candidates that carry no label, (volume, score, size) each.

    Volume and size are natural logarithms of mm3, the score of odds. `size` is that of the score's peak, known of both;
    a drawn node without a peak has neither score nor size (nan).
    """

    drawn: NDArray[np.float64]  # nodes x (log volume, score, size)
    drawn_case: NDArray[np.int64]
    others: NDArray[np.float64]  # candidates x (score, size)
    others_case: NDArray[np.int64]
    cases: int


@dataclass(frozen=True, eq=False)
class _Looked:
    """A case on the coarse grid; voxels that may be node, and what was seen of each."""

    spacing: Array
    numbers: NDArray[np.int32]  # of the drawn nodes
    volumes: Array  # of the drawn nodes, mm3
    possible: NDArray[np.bool_]
    features: NDArray[np.float16]  # half precision: the classifier sorts them into 255 bins anyway


def find_likeness(
    dataset: RawDataset, cases: Sequence[Case], radius_mm: float, seed: int, quiet: bool = False
) -> Likeness | None:
    """Learn from some cases what drawn nodes look like, find what looks like them in the others; None if too few can be seen."""
    rng = np.random.default_rng(seed)
    coarse = [_read(dataset, case, radius_mm) for case in tqdm(cases, "cases read", delay=2, disable=quiet)]
    with_nodes = [at for at, (_, _, numbers, _) in enumerate(coarse) if numbers.any()]
    if len(with_nodes) < FEWEST_WITH_NODES:
        return None
    empty = np.setdiff1d(np.arange(len(coarse)), with_nodes)
    order = np.concatenate([rng.permutation(with_nodes), rng.permutation(empty)])  # so that every part of the cases holds nodes
    ranges = _ranges([(image, spacing, numbers) for image, spacing, numbers, _ in coarse], radius_mm)
    looked = []
    for _ in tqdm(cases, "cases looked at", delay=2, disable=quiet):
        looked.append(_look(*coarse.pop(0), radius_mm, ranges))  # an image goes when its features come
    found: dict[int, tuple[Array, Array]] = {}
    for fold in tqdm(range(FOLDS), "un-drawn nodes", delay=2, disable=quiet):
        held_out = order[fold::FOLDS]
        model = _learn([looked[at] for at in order if at not in held_out], rng)
        found |= {int(at): _candidates(looked[at], model, radius_mm) for at in held_out}
    drawn, others = zip(*(found[at] for at in range(len(looked))), strict=True)
    return Likeness(np.concatenate(drawn), _whose(drawn), np.concatenate(others), _whose(others), len(looked))


def _whose(rows: Sequence[Array]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(rows)), [len(part) for part in rows])


def _read(dataset: RawDataset, case: Case, radius: float) -> tuple[Floats, Array, NDArray[np.int32], Array]:
    """Image, spacing and node numbers on the coarse grid, and the nodes' volumes."""
    from lnauto.compat.images import SimpleITKIO

    reader = SimpleITKIO()
    image, properties = reader.read_images([str(path) for path in case.images])
    drawn = reader.read_seg(str(case.label))[0][0]
    spacing = np.array(properties["spacing"], float)
    numbers = drawn.astype(np.int32) if dataset.instances else label_components(np.isin(drawn, dataset.node_labels))[0]
    volumes = np.bincount(numbers.ravel())[1:] * np.prod(spacing)
    steps = _steps(numbers.shape, spacing, radius)
    names = list(dataset.channel_names.values())
    means = np.stack([_block_means(_comparable(image[n], names[n]), steps) for n in range(len(image))])
    middle = tuple(slice(step // 2, size // step * step, step) for step, size in zip(steps, numbers.shape, strict=True))
    return means, spacing * steps, numbers[middle], volumes


def _steps(shape: tuple[int, ...], spacing: Array, radius: float) -> list[int]:
    """Voxels to a side of the coarse grid's voxels; where that leaves too many, more along the finest side."""
    steps = [max(1, min(round(radius / VOXELS_PER_RADIUS / side), size // 8)) for side, size in zip(spacing, shape, strict=True)]
    while np.prod([size // step for size, step in zip(shape, steps, strict=True)]) > MOST_VOXELS:
        steps[int(np.argmin(spacing * steps))] += 1
    return steps


def _comparable(channel: Array, name: str) -> Array:
    """CT as it is; anything else has no unit of its own, so its own mean and spread serve."""
    if name.lower() == "ct":
        return channel
    content = channel[channel != 0]
    return (channel - content.mean()) / max(float(content.std()), 1e-6) if content.size else channel


def _block_means(channel: Array, steps: list[int]) -> Floats:
    z, y, x = (size // step for size, step in zip(channel.shape, steps, strict=True))
    whole = channel[: z * steps[0], : y * steps[1], : x * steps[2]]
    means: Floats = whole.reshape(z, steps[0], y, steps[1], x, steps[2]).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def _ranges(coarse: list[tuple[Floats, Array, NDArray[np.int32]]], radius: float) -> list[tuple[float, float]]:
    """Channel by channel, between what the smoothed intensity of drawn voxels lies."""
    found = []
    for channel in range(len(coarse[0][0])):
        voxels = [_smooth(image[channel], SCALES[0], radius, spacing)[numbers > 0] for image, spacing, numbers in coarse]
        low, high = np.percentile(np.concatenate(voxels), INTENSITY_RANGE)
        found.append((float(low), max(float(high), float(low) + 1e-6)))
    return found


def _smooth(values: Floats, scale: float, radius: float, spacing: Array) -> Floats:
    sigma = scale * radius / spacing
    if scale < BOX_ABOVE:
        smooth: Floats = gaussian_filter(values, sigma, truncate=2.5)
        return smooth
    widths = np.rint(np.sqrt(6 * sigma**2 + 1)).astype(int)
    smooth = uniform_filter(uniform_filter(values, widths), widths)
    return smooth


def _look(
    image: Floats, spacing: Array, numbers: NDArray[np.int32], volumes: Array, radius: float, ranges: list[tuple[float, float]]
) -> _Looked:
    relative = [
        np.clip((channel - np.float32(low)) / np.float32(high - low), -CLIP, 1 + CLIP)
        for channel, (low, high) in zip(image, ranges, strict=True)
    ]
    slightly = [_smooth(channel, SCALES[0], radius, spacing) for channel in relative]
    possible = np.logical_and.reduce([(channel >= 0) & (channel <= 1) for channel in slightly])
    features = [values[possible].astype(np.float16) for values in _maps(relative, slightly, radius, spacing)]
    places = [values[possible].astype(np.float16) for values in _places(image[0], spacing / radius)]
    return _Looked(spacing, numbers, volumes, possible, np.stack([*features, *places], axis=1))


def _maps(relative: list[Floats], slightly: list[Floats], radius: float, spacing: Array) -> Iterator[Floats]:
    """What each voxel's surroundings are like, one after the other to spare memory."""
    for channel, level in zip(relative, slightly, strict=True):
        yield channel
        yield level
        for axis in range(3):
            step = max(1, round(ASIDE * radius / spacing[axis]))
            for way in (-1, 1):
                yield np.roll(level, way * step, axis)
        finer = level
        for scale in SCALES[1:]:
            coarser = _smooth(channel, scale, radius, spacing)
            yield coarser
            yield finer - coarser
            finer = coarser
        yield gaussian_gradient_magnitude(channel, SCALES[0] * radius / spacing, truncate=2.5)
        for outside in (channel < 0, channel > 1):
            for scale in SHARE_SCALES:
                yield _smooth(outside.astype(np.float32), scale, radius, spacing)


def _places(channel: Floats, steps: Array) -> list[Floats]:
    """Where each voxel lies from the middle of what is bright, and how far aside."""
    bright = channel > channel.mean()
    places = []
    for axis in range(3):
        along = np.arange(channel.shape[axis]) * steps[axis]
        profile = bright.sum(axis=tuple(other for other in range(3) if other != axis))
        offset = (along - np.average(along, weights=profile + 1e-6)).astype(np.float32)
        places.append(np.broadcast_to(offset.reshape([-1 if n == axis else 1 for n in range(3)]), channel.shape))
    return [*places, np.abs(places[2])]


def _learn(cases: list[_Looked], rng: np.random.Generator) -> HistGradientBoostingClassifier:
    """Drawn nodes count alike, whatever their size."""
    seen, drawn = [], []
    for case in cases:
        numbers = case.numbers[case.possible]
        for wanted in (*np.unique(numbers[numbers > 0]), 0):
            voxels = np.flatnonzero(numbers == wanted)
            chosen = rng.choice(voxels, min(len(voxels), PER_NODE if wanted else PER_CASE), replace=False)
            seen.append(case.features[chosen])
            drawn.append(np.full(len(chosen), wanted > 0))
    model = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.1, max_leaf_nodes=15, l2_regularization=1.0, early_stopping=False, random_state=0
    )
    return model.fit(np.concatenate(seen).astype(np.float32), np.concatenate(drawn))


def _candidates(case: _Looked, model: HistGradientBoostingClassifier, radius: float) -> tuple[Array, Array]:
    """The drawn nodes as (log volume, score, size), and the candidates that are none as (score, size)."""
    score = np.zeros(case.numbers.shape, np.float32)
    if case.possible.any():
        score[case.possible] = model.predict_proba(case.features.astype(np.float32))[:, 1]
    score = gaussian_filter(score, SCALES[0] * radius / case.spacing, truncate=2.5)
    peaks = _peaks(score, case.spacing, radius)
    markers = np.zeros(score.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    tops = np.concatenate([[np.inf], score[tuple(peaks.T)]])
    basins = watershed(-score, markers, mask=score > CORE * PEAK_ABOVE)
    sizes = np.bincount(basins[score >= CORE * tops[basins]], minlength=len(tops)) * float(np.prod(case.spacing))
    drawn = np.full((len(case.volumes), 3), np.nan)
    drawn[:, 0] = np.log(np.maximum(case.volumes, 1e-3))
    others = []
    for at, peak in enumerate(peaks, 1):
        seen = np.log(tops[at] / (1 - min(tops[at], 0.9999))), np.log(sizes[at])
        near = case.numbers[tuple(slice(max(0, place - 1), place + 2) for place in peak)]
        if not near.any():
            others.append(seen)
            continue
        node = int(np.bincount(near[near > 0]).argmax())
        if np.isnan(drawn[node - 1, 1]):  # peaks come in order: the highest stands for the node
            drawn[node - 1, 1:] = seen
    return drawn[case.volumes > 0], np.array(others, float).reshape(-1, 2)


def _peaks(score: Floats, spacing: Array, radius: float) -> Array:
    """Local maxima, highest first; one that a high ridge joins to a higher one is no peak of its own."""
    widths = [2 * max(1, round(0.6 * radius / side)) + 1 for side in spacing]
    found = np.argwhere((score == maximum_filter(score, widths)) & (score > PEAK_ABOVE))
    found = found[np.argsort(-score[tuple(found.T)], kind="stable")]
    reach = [int(5 * radius / side) + 1 for side in spacing]
    kept = np.zeros(score.shape, bool)
    for peak in found:
        box = tuple(slice(max(0, place - more), place + more + 1) for place, more in zip(peak, reach, strict=True))
        parts, _ = label(score[box] > RIDGE * score[tuple(peak)])
        here = tuple(place - side.start for place, side in zip(peak, box, strict=True))
        kept[tuple(peak)] = not kept[box][parts == parts[here]].any()
    return found[kept[tuple(found.T)]]
