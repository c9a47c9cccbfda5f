"""The lymph-node stations of the chest (IASLC map): where they lie, and what N stage their involvement means (TNM 8)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Station:
    """An ellipsoid in the atlas, (x, y, z) in mm from the carina; `weight` says how often an enlarged benign node lies there."""

    centre: Point
    radii: Point
    weight: float


STATIONS = {
    "1R": Station((-30, 8, 88), (9, 9, 9), 0.4),
    "1L": Station((32, 12, 88), (9, 9, 9), 0.4),
    "2R": Station((-20, 6, 54), (9, 12, 12), 1.0),
    "2L": Station((25, 10, 56), (7, 10, 12), 0.6),
    "3A": Station((2, -44, 22), (16, 8, 18), 0.8),
    "3P": Station((-6, 33, 52), (9, 5, 16), 0.4),
    "4R": Station((-16, -4, 18), (10, 10, 14), 2.0),
    "4L": Station((15, 10, 6), (7, 9, 10), 1.4),
    "5": Station((36, -10, 8), (9, 10, 8), 1.2),
    "6": Station((26, -36, 20), (10, 9, 12), 0.9),
    "7": Station((1, 10, -28), (13, 9, 10), 2.0),
    "8": Station((-8, 24, -70), (10, 9, 24), 0.6),
    "9": Station((0, 18, -98), (24, 10, 12), 0.3),
    "10R": Station((-40, -2, -12), (9, 10, 10), 1.3),
    "10L": Station((46, 2, -26), (9, 10, 10), 1.3),
    "11R": Station((-56, 6, -40), (8, 10, 10), 0.7),
    "11L": Station((60, 8, -42), (8, 10, 10), 0.7),
}


ON_THE_LEFT = ("5", "6")  # beside and below the arch of the aorta, though their names do not say so


def side_of(station: str) -> str | None:
    """ "L", "R", or None in the middle."""
    return station[-1] if station[-1] in "LR" else None


def n_group(station: str, tumour_side: str) -> int:
    """How far a station lies from the tumour: 1 hilar, 2 mediastinal, 3 contralateral or supraclavicular. Of those in the middle,
    as which 5 and 6 count here, it makes no difference on which side the tumour is [our choice, for what is drawn]."""
    number = int(station.rstrip("APLR"))
    if number == 1:
        return 3
    if side_of(station) not in (None, tumour_side):
        return 3
    return 1 if number >= 10 else 2


def n_stage(involved: Collection[str], tumour_side: str) -> int:
    """The N stage that the involvement of these stations means."""
    across = tumour_side == "R" and not set(ON_THE_LEFT).isdisjoint(involved)
    return 3 if across else max((n_group(station, tumour_side) for station in involved), default=0)
