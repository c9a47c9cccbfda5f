"""On which series something was drawn."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydicom.dataset import Dataset

from lnauto.dicom.listing import Drawing, Series
from lnauto.errors import InputError

FETCH = "put the series it was drawn on into the folder"


def drawn_on(drawing: Drawing, series: Sequence[Series], instances: Collection[str], header: Dataset) -> Series:
    """The series that a drawing names, else the one that holds its `instances`, else the only one in its frame of reference.

    Of several that it names, the one that holds its `instances`.
    """
    if drawing.series:
        named = [one for one in series if one.uid in drawing.series]
        if not named:
            missing = ", ".join(drawing.series)
            raise InputError.of(f"the images it was drawn on are not there (series {missing})", drawing.path, FETCH)
        named = [one for one in named if one.instances & set(instances)] or named
    else:
        frame = str(header.get("FrameOfReferenceUID") or "")
        named = [one for one in series if one.instances & set(instances)]
        named = named or [one for one in series if frame and not instances and one.frame_of_reference == frame]
    if not named:
        first = f": its first image is {min(instances)}, which is not there" if instances else ""
        raise InputError.of(f"it does not say on which series it was drawn{first}", drawing.path, FETCH)
    if len(named) > 1:
        raise InputError.of(f"it was drawn on {len(named)} series", drawing.path, "keep only one of them in the folder")
    return named[0]


def absent(instances: Collection[str], drawing: Drawing, series: Series) -> InputError:
    """Some of the images of a series that is there are missing."""
    first = min(instances)
    more = f" and {len(instances) - 1} more" if len(instances) > 1 else ""
    what = f"it refers to images that are not there ({first}{more}, of series {series.uid})"
    return InputError.of(what, drawing.path, "put the missing images into the folder")
