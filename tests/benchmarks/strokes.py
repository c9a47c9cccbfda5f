"""Strokes for label maps that somebody drew in full: what an annotator with little time would leave of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from lnauto.data.phantom.annotation import curve_in, stroke_background
from lnauto.nodes import label_components

MOST_OF_FOREGROUND, MOST_OF_BACKGROUND = 0.1, 0.01  # voxels of each label, in each case
ROUND, ANYWHERE = 0.003, 0.006  # of the background: strokes round what is drawn, and strokes wherever they go
GAPS = (2, 3, 4)  # voxels between a label and a stroke round it


def draw_strokes(
    rng: np.random.Generator, label: NDArray[np.integer], ignore: int, body: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """A bent line in every slice of each piece of a label, a tenth of it at most; arcs round them, and lines through the body."""
    drawn = np.full(label.shape, ignore, np.uint8)
    for value in np.unique(label[label > 0]):
        pieces, count = label_components(label == value)
        for number in range(1, count + 1):
            _inside(rng, drawn, pieces == number, int(value))
    _round(rng, drawn, label > 0, ignore)
    body = np.ones(label.shape, bool) if body is None else body
    scratch = np.where(drawn == ignore, 2, 0).astype(np.uint8)  # as the phantom's annotator writes it
    stroke_background(rng, scratch, label > 0, body, ANYWHERE)
    drawn[(scratch == 0) & (label == 0)] = 0
    return drawn


def _inside(rng: np.random.Generator, drawn: NDArray[np.uint8], piece: NDArray[np.bool_], value: int) -> None:
    left = int(MOST_OF_FOREGROUND * piece.sum())
    for z in rng.permutation(np.flatnonzero(piece.any(axis=(1, 2)))):
        line = curve_in(rng, piece[z])[:left]
        drawn[z, line[:, 0], line[:, 1]] = value
        left -= len(line)


def _round(rng: np.random.Generator, drawn: NDArray[np.uint8], mask: NDArray[np.bool_], ignore: int) -> None:
    left = int(ROUND * (~mask).sum())
    for z in rng.permutation(np.flatnonzero(mask.any(axis=(1, 2)))):
        away = distance_transform_edt(~mask[z])
        gap = rng.choice(GAPS)
        ring = np.argwhere((away > gap) & (away <= gap + 1))
        if not len(ring):
            continue
        turned = ring - np.argwhere(mask[z]).mean(axis=0)
        angle = (np.arctan2(turned[:, 0], turned[:, 1]) + rng.uniform(0, 2 * np.pi)) % (2 * np.pi)
        arc = ring[np.argsort(angle)][: len(ring) // 2][:left]
        drawn[z, arc[:, 0], arc[:, 1]] = 0
        left -= len(arc)


def shares(strokes: NDArray[np.integer], truth: NDArray[np.integer], ignore: int) -> dict[int, float]:
    """Of each label in the truth, how much is drawn; strokes that are wrong are a mistake of whoever drew them."""
    judged = strokes != ignore
    if (strokes[judged] != truth[judged]).any():
        raise ValueError("a stroke says what the truth does not")
    return {int(value): float(judged[truth == value].mean()) for value in np.unique(truth)}
