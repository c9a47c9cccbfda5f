"""One case: its series as channels on one grid, and what is drawn on them as its mask."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lnauto.dicom.choosing import MODALITIES, choose, compiled
from lnauto.dicom.listing import Contents, Drawing, Series, read_folder
from lnauto.dicom.masks import Mask, read_mask
from lnauto.dicom.volume import AIR, read_volume
from lnauto.errors import InputError
from lnauto.files import replacing
from lnauto.workflow.convert_sources import SourceCase

log = logging.getLogger(__name__)

CHANNEL_OF = {"CT": "CT", "PT": "PET", "MR": "MRI"}
LOST = "Case %s: no voxel of the first channel's grid lies in %s; name the finer series first (--channels or --series)."
REGISTER = "register one to the other first, or convert one of them alone"


@dataclass(frozen=True)
class Wishes:
    """What is to be taken from each case."""

    channels: tuple[str, ...]
    series: tuple[str, ...]
    roi: str
    structures: str
    instances: bool
    masks: bool

    def wanted(self) -> tuple[str, ...]:
        """What names the series of each channel."""
        if self.series:
            return self.series
        if len(self.channels) > 1 or (self.channels and self.channels[0].upper() in MODALITIES):
            return self.channels
        return ("",)


@dataclass(frozen=True)
class Made:
    """The files of a case, and what they came from."""

    images: tuple[Path, ...]
    label: Path | None
    channels: tuple[str, ...]
    series: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    def remove_written(self, out: Path) -> None:
        """Those inside the data set; files that are named where they are stay."""
        for path in (*self.images, *([self.label] if self.label else [])):
            if path.is_relative_to(out):
                path.unlink(missing_ok=True)


def convert_case(case: SourceCase, wishes: Wishes, out: Path, ending: str) -> Made:
    """Write what is DICOM into the data set; a plain file is only named."""
    if not case.is_dicom:
        if len(case.images) != len(wishes.channels):
            what = f"it has {len(case.images)} images, but {len(wishes.channels)} channels are named"
            raise InputError.of(what, f"case {case.name}", "give an image for each channel, or name the channels (--channels)")
        return Made(case.images, case.mask if wishes.masks else None, wishes.channels)
    contents = _contents(case)
    wanted = wishes.wanted()
    if len(contents) > 1 and len(wanted) == 1:
        wanted = wanted * len(contents)
    if len(contents) not in (1, len(wanted)):
        what = f"it has {len(contents)} folders of images, but {len(wanted)} channels are named"
        raise InputError.of(what, f"case {case.name}", "give a folder for each channel, or one that holds them all")
    places = contents if len(contents) > 1 else contents * len(wanted)
    series = [choose(place.series, name, place.folder) for place, name in zip(places, wanted, strict=True)]
    images = on_one_grid(series)
    label, mask = _label(case, contents, series, wishes) if wishes.masks else (None, None)
    channels = wishes.channels or tuple(CHANNEL_OF.get(one.modality, one.modality) for one in series)
    paths = [out / "imagesTr" / f"{case.name}_{number:04d}{ending}" for number in range(len(images))]
    label_path = None if label is None else out / "labelsTr" / f"{case.name}{ending}"
    for path, image in zip(paths, images, strict=True):
        _write(image, path)
    if label is not None and label_path is not None:
        _write(label, label_path)
    elif case.has_plain_mask and wishes.masks:
        label_path = case.mask
    objects = mask.names if mask else ()
    return Made(tuple(paths), label_path, channels, tuple(one.uid for one in series), objects)


def _contents(case: SourceCase) -> list[Contents]:
    return [read_folder(folder) for folder in case.images]


def on_one_grid(series: Sequence[Series]) -> list[sitk.Image]:
    """The volumes, all on the first one's grid."""
    first, *others = series
    images = [read_volume(first)]
    for one in others:
        if one.frame_of_reference != first.frame_of_reference:
            what = f"its frame of reference is not that of series {first.uid}, so nothing says how they lie to each other"
            raise InputError.of(what, one.where, REGISTER)
        if not first.frame_of_reference and one.grid != first.grid:
            what = f"neither it nor series {first.uid} has a frame of reference, so nothing says how they lie to each other"
            raise InputError.of(what, one.where, REGISTER)
        image = read_volume(one)
        if one.grid != first.grid:
            outside = AIR if one.modality == "CT" else 0.0
            image = sitk.Resample(image, images[0], sitk.Transform(), sitk.sitkLinear, outside, sitk.sitkFloat32)
        images.append(image)
    return images


def _label(
    case: SourceCase, contents: Sequence[Contents], series: Sequence[Series], wishes: Wishes
) -> tuple[sitk.Image | None, Mask | None]:
    if case.has_plain_mask:
        return None, None  # a file, which is only named
    together = _with_mask_folder(case, contents)
    drawings = _chosen(together.drawings, wishes.structures, together.folder)
    drawings = _of_these(drawings, together, series)
    if not drawings:
        return None, None
    mask = _read(drawings, together, series, wishes)
    image = mask.instances
    if mask.series.grid != series[0].grid:
        log.info("Case %s: the mask was drawn on series %s and is put onto the first channel's grid.", case.name, mask.series.uid)
        image = sitk.Resample(image, _empty_like(series[0]), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        _tell_lost(case, mask, image)
    return image if wishes.instances else sitk.Cast(image > 0, sitk.sitkUInt8), mask


def _tell_lost(case: SourceCase, mask: Mask, resampled: sitk.Image) -> None:
    """Small objects fall between the centres of a coarser grid's voxels; others lie outside it."""
    before, after = (np.unique(sitk.GetArrayViewFromImage(image)) for image in (mask.instances, resampled))
    if lost := [mask.names[value - 1] for value in np.setdiff1d(before, after)]:
        log.warning(LOST, case.name, ", ".join(lost))


def _with_mask_folder(case: SourceCase, contents: Sequence[Contents]) -> Contents:
    """All there is of a case; where the mask is a DICOM file of its own, only that."""
    places = list(contents)
    if case.mask is not None:
        places.append(read_folder(case.mask if case.mask.is_dir() else case.mask.parent))
    series = {one.uid: one for place in reversed(places) for one in place.series}
    drawings = [one for place in places for one in place.drawings]
    if case.mask is not None:
        drawings = [one for one in drawings if one.path == case.mask or case.mask in one.path.parents]
        if not drawings:
            raise InputError.of("this is neither an image nor a DICOM-SEG or RTSTRUCT", case.mask, "correct the path")
    return Contents(places[0].folder, tuple(series.values()), tuple({one.path: one for one in drawings}.values()))


def _empty_like(series: Series) -> sitk.Image:
    return series.grid.image(np.zeros(series.grid.size[::-1], np.uint8))


def _chosen(drawings: Sequence[Drawing], which: str, folder: Path) -> list[Drawing]:
    """By the end of a UID, or by a pattern on description or file name."""
    if not which:
        return list(drawings)
    pattern = compiled(which, "--structures")
    by_name = [one for one in drawings if pattern.fullmatch(one.description) or pattern.fullmatch(one.path.name)]
    found = [one for one in drawings if one.uid.endswith(which)] or by_name
    if not found and drawings:
        listed = "; ".join(map(str, drawings))
        raise InputError.of(f"no SEG or RTSTRUCT is {which} (there: {listed})", folder, "correct --structures")
    return found


def _of_these(drawings: Sequence[Drawing], contents: Contents, series: Sequence[Series]) -> list[Drawing]:
    """Without those that were drawn on series that are there but were not chosen."""
    chosen = {one.uid for one in series}
    others = {one.uid for one in contents.series} - chosen
    elsewhere = [one for one in drawings if not set(one.series) & chosen and set(one.series) & others]
    if elsewhere and len(elsewhere) == len(drawings):
        what = f"what is drawn belongs to series that were not chosen ({'; '.join(map(str, elsewhere))})"
        raise InputError.of(what, contents.folder, "choose the series that was drawn on (--series)")
    for one in elsewhere:
        log.info("Left out, because it was drawn on a series that was not chosen: %s", one)
    return [one for one in drawings if one not in elsewhere]


def _read(drawings: Sequence[Drawing], contents: Contents, series: Sequence[Series], wishes: Wishes) -> Mask:
    """The mask of those that were chosen; without a choice there must be one that can be read, and the others are named."""
    if wishes.structures:
        return read_mask(drawings, contents, wishes.roi, among=series)
    good: dict[Drawing, Mask] = {}
    bad: list[InputError] = []
    for drawing in drawings:
        try:
            good[drawing] = read_mask([drawing], contents, wishes.roi, among=series)
        except InputError as error:
            bad.append(error)
    if len(good) > 1:
        what = f"there are {len(good)} SEG or RTSTRUCT objects: {'; '.join(map(str, good))}"
        remedy = "choose by --structures (the end of a UID, or a pattern on description or file name); '.*' takes all together"
        raise InputError.of(what, contents.folder, remedy)
    if not good:
        raise InputError([problem for error in bad for problem in error.problems])
    for problem in (problem for error in bad for problem in error.problems):
        log.warning("Left out: %s", problem.told)
    [mask] = good.values()
    return mask


def _write(image: sitk.Image, path: Path) -> None:
    with replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary), True)
