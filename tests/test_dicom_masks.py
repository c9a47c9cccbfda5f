"""What is drawn in SEG and RTSTRUCT comes back voxel by voxel, or a sentence says why not."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import OBLIQUE, item, new_file, stored, three_nodes, write_multiframe, write_series
from pydicom.uid import generate_uid

from lnauto.dicom.listing import RTSTRUCT_CLASS, Contents, Series, read_folder
from lnauto.dicom.masks import Mask, read_mask
from lnauto.dicom.rtstruct import fill
from lnauto.dicom.seg import load_seg, read_planes
from lnauto.dicom.write_rtstruct import write_rtstruct
from lnauto.dicom.write_seg import write_seg
from lnauto.errors import InputError

WRITERS = {"SEG": write_seg, "RTSTRUCT": write_rtstruct}
Writer = Callable[..., None]


@pytest.fixture(params=["axial", "oblique"])
def series(request: pytest.FixtureRequest, tmp_path: Path) -> Series:
    write_series(tmp_path, stored(), orientation=OBLIQUE if request.param == "oblique" else (1, 0, 0, 0, 1, 0))
    return the_series(tmp_path)


@pytest.fixture
def axial(tmp_path: Path) -> Series:
    write_series(tmp_path, stored())
    return the_series(tmp_path)


def the_series(folder: Path) -> Series:
    [found] = read_folder(folder).series
    return found


def read(folder: Path, pattern: str = "", **options: Any) -> Mask:
    contents = read_folder(folder)
    return read_mask(contents.drawings, contents, pattern, **options)


def refusal(folder: Path, pattern: str = "") -> str:
    with pytest.raises(InputError) as caught:
        read(folder, pattern)
    return str(caught.value)


def values_of(mask: Mask) -> np.ndarray:
    return sitk.GetArrayFromImage(mask.instances)


@pytest.mark.parametrize("kind", WRITERS)
class TestBothKinds:
    def test_there_and_back(self, series: Series, tmp_path: Path, kind: str) -> None:
        truth = three_nodes()
        WRITERS[kind](series.grid.image(truth), series, tmp_path / "mask", names={1: "LN 4R", 2: "LN 7"})
        mask = read(tmp_path, ".*")
        assert np.array_equal(values_of(mask), truth)
        assert mask.names[:2] == ("LN 4R", "LN 7")
        assert mask.instances.GetDirection() == pytest.approx(series.grid.direction)
        assert mask.series.uid == series.uid

    def test_on_many_frames_in_one_file(self, tmp_path: Path, kind: str) -> None:
        write_multiframe(tmp_path / "images", stored())
        WRITERS[kind](three_nodes(), the_series(tmp_path), tmp_path / "mask")
        assert np.array_equal(values_of(read(tmp_path)), three_nodes())

    def test_objects_are_chosen_by_a_pattern_on_the_whole_name(self, axial: Series, tmp_path: Path, kind: str) -> None:
        WRITERS[kind](three_nodes(), axial, tmp_path / "mask", names={1: "LN 4R", 2: "node 7", 3: "LN not"})
        mask = read(tmp_path, "ln [0-9].*|NODE.*")
        assert mask.names == ("LN 4R", "node 7")
        assert set(np.unique(values_of(mask))) == {0, 1, 2}
        assert "no object's name is LN (there: LN 4R, node 7, LN not)" in refusal(tmp_path, "LN")
        assert "no valid pattern" in refusal(tmp_path, "(LN")

    def test_only_what_is_needed_of_the_patient(self, axial: Series, tmp_path: Path, kind: str) -> None:
        WRITERS[kind](three_nodes(), axial, tmp_path / "mask")
        dataset = pydicom.dcmread(tmp_path / "mask")
        assert (dataset.PatientID, dataset.StudyInstanceUID) == ("4711", axial.study)
        text = str(dataset)
        assert not [word for word in ("070Y", "Chest of Jane", "Clinic") if word in text]

    def test_nothing_is_left_half_written(
        self, axial: Series, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_off(self: Any, filename: Path, **_: Any) -> None:
            Path(filename).write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(pydicom.dataset.Dataset, "save_as", break_off)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(OSError, match="disk full"):
            WRITERS[kind](three_nodes(), axial, tmp_path / "mask")
        assert sorted(tmp_path.iterdir()) == before

    def test_masks_that_cannot_be_written(self, axial: Series, tmp_path: Path, kind: str) -> None:
        with pytest.raises(InputError, match="empty"):
            WRITERS[kind](np.zeros((6, 10, 12), np.uint8), axial, tmp_path / "mask")
        with pytest.raises(InputError, match="6x10x11 voxels"):
            WRITERS[kind](np.ones((6, 10, 11), np.uint8), axial, tmp_path / "mask")
        elsewhere = axial.grid.image(three_nodes())
        elsewhere.SetOrigin((0, 0, 0))
        with pytest.raises(InputError, match="not on the grid"):
            WRITERS[kind](elsewhere, axial, tmp_path / "mask")

    def test_images_that_are_not_there(self, axial: Series, tmp_path: Path, kind: str) -> None:
        WRITERS[kind](three_nodes(), axial, tmp_path / "mask")
        for path in tmp_path.glob("IM*"):
            path.unlink()
        assert f"not there (series {axial.uid})" in refusal(tmp_path)

    def test_a_series_that_is_no_volume(self, axial: Series, tmp_path: Path, kind: str) -> None:
        WRITERS[kind](three_nodes(), axial, tmp_path / "mask")
        (tmp_path / "IM0004.dcm").unlink()
        assert "there is a gap" in refusal(tmp_path) or "images that are not there" in refusal(tmp_path)

    def test_among_other_series(self, axial: Series, tmp_path: Path, kind: str) -> None:
        """Chosen images, another series' drawing."""
        WRITERS[kind](three_nodes(), axial, tmp_path / "mask")
        write_series(tmp_path / "other", stored(seed=1))
        contents = read_folder(tmp_path)
        assert np.array_equal(values_of(read_mask(contents.drawings, contents)), three_nodes())
        others = [one for one in contents.series if one.uid != axial.uid]
        with pytest.raises(InputError, match="images it was drawn on are not there"):
            read_mask(contents.drawings, contents, among=others)


def seg_of(series: Series, mask: np.ndarray, path: Path, kind: str = "BINARY") -> None:
    """As others write it: overlapping segments (z, y, x, segment), fractions."""
    _, frames = series.lay_out()
    codes = pydicom.sr.codedict.codes.SCT
    count = mask.shape[-1]
    highdicom.seg.Segmentation(
        source_images=[pydicom.dcmread(frame.path) for frame in frames],
        pixel_array=mask,
        segmentation_type=kind,
        segment_descriptions=[
            highdicom.seg.SegmentDescription(number, f"segment {number}", codes.Tissue, codes.Bone, "MANUAL")
            for number in range(1, count + 1)
        ],
        series_instance_uid=generate_uid(), series_number=7, sop_instance_uid=generate_uid(), instance_number=1,
        manufacturer="x", manufacturer_model_name="x", software_versions="x", device_serial_number="x",
    ).save_as(path)  # fmt: skip


class TestSegsOfOthers:
    def test_the_smaller_of_overlapping_ones_wins(self, axial: Series, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        mask = np.zeros((6, 10, 12, 2), np.uint8)
        mask[2:4, 2:4, 2:4, 0] = 1
        mask[1:5, 1:6, 3:8, 1] = 1
        seg_of(axial, mask, tmp_path / "seg")
        with caplog.at_level(logging.INFO, "lnauto"):
            values = values_of(read(tmp_path, ".*"))
        assert np.array_equal(values == 1, mask[..., 0] == 1)
        assert np.array_equal(values == 2, (mask[..., 1] == 1) & (mask[..., 0] == 0))
        assert "segment 2 and segment 1 overlap in 4 voxels; they are given to segment 1" in caplog.text

    def test_fractions_count_from_a_half(self, axial: Series, tmp_path: Path) -> None:
        share = np.random.default_rng(0).uniform(0, 1, (6, 10, 12, 1))
        seg_of(axial, share, tmp_path / "seg", "FRACTIONAL")
        assert np.array_equal(values_of(read(tmp_path)) == 1, np.round(share[..., 0] * 255) >= 127.5)

    def test_a_label_map(self, axial: Series, tmp_path: Path) -> None:
        mask = np.stack([three_nodes() == value for value in (1, 2, 3)], axis=-1).astype(np.uint8)
        seg_of(axial, mask, tmp_path / "seg", "LABELMAP")
        assert np.array_equal(values_of(read(tmp_path, ".*")), three_nodes())

    def changed(self, axial: Series, tmp_path: Path, change: Callable[[Any], None], references: bool = False) -> None:
        """A SEG of one segment with each frame's groups changed, by default without saying which image a frame belongs to."""
        seg_of(axial, (three_nodes() > 0)[..., None].astype(np.uint8), tmp_path / "seg")
        dataset = pydicom.dcmread(tmp_path / "seg")
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            if not references:
                del groups.DerivationImageSequence
            change(groups.PlanePositionSequence[0])
        dataset.save_as(tmp_path / "seg")

    @pytest.mark.parametrize("off", [0.0, 0.045, -0.28])
    def test_frames_are_found_by_position(self, axial: Series, tmp_path: Path, off: float) -> None:
        def move(plane: Any) -> None:
            plane.ImagePositionPatient = [*plane.ImagePositionPatient[:2], plane.ImagePositionPatient[2] + off]

        self.changed(axial, tmp_path, move)
        assert np.array_equal(values_of(read(tmp_path)), three_nodes() > 0)

    def test_frames_between_slices(self, axial: Series, tmp_path: Path) -> None:
        def move(plane: Any) -> None:
            plane.ImagePositionPatient = [*plane.ImagePositionPatient[:2], plane.ImagePositionPatient[2] + 1]

        self.changed(axial, tmp_path, move)
        assert "a frame lies on no slice of the series (at slice 6.33 of 6)" in refusal(tmp_path)

    def test_references_and_positions_that_disagree(self, axial: Series, tmp_path: Path) -> None:
        def move(plane: Any) -> None:
            plane.ImagePositionPatient = [*plane.ImagePositionPatient[:2], plane.ImagePositionPatient[2] + 6]

        self.changed(axial, tmp_path, move, references=True)
        assert "refers to slice 6 but lies 6.0 mm away" in refusal(tmp_path)

    def test_a_part_of_the_image(self, axial: Series, tmp_path: Path) -> None:
        """Frames cropped to what is drawn, as some programs write them."""
        truth = three_nodes() > 0
        seg_of(axial, truth[..., None].astype(np.uint8), tmp_path / "seg")
        dataset = pydicom.dcmread(tmp_path / "seg")
        pixels = dataset.pixel_array[:, 2:, 1:]
        dataset.Rows, dataset.Columns = pixels.shape[1:]
        dataset.PixelData = pydicom.pixels.pack_bits(pixels.ravel())
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
            groups.PlanePositionSequence[0].ImagePositionPatient = [x + 2.0, y + 3.0, z]
        dataset.save_as(tmp_path / "seg")
        truth[:, :2], truth[:, :, :1] = False, False
        assert np.array_equal(values_of(read(tmp_path)), truth)

    @pytest.mark.parametrize("said", ["nothing", "the file"])
    def test_frames_that_name_no_frame_of_many_in_one_file(self, tmp_path: Path, said: str) -> None:
        """They mean all of them, and their position decides."""
        write_multiframe(tmp_path / "images", stored())
        write_seg(three_nodes(), the_series(tmp_path), tmp_path / "seg")
        dataset = pydicom.dcmread(tmp_path / "seg")
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            if said == "nothing":
                del groups.DerivationImageSequence
            else:
                del groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        dataset.save_as(tmp_path / "seg")
        assert np.array_equal(values_of(read(tmp_path)), three_nodes())

    @pytest.mark.parametrize("drawn_on", ["images", "grid"])
    def test_slices_that_drift_to_the_side(self, tmp_path: Path, drawn_on: str) -> None:
        """By less than half a pixel from first to last; others write the positions of the images, or of a straight grid."""
        write_series(tmp_path, stored(), shift=(0.14, 0, 0))
        write_seg(three_nodes(), the_series(tmp_path), tmp_path / "seg")
        dataset = pydicom.dcmread(tmp_path / "seg")
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            plane = groups.PlanePositionSequence[0]
            if drawn_on == "grid":
                plane.ImagePositionPatient = [-20.0, *plane.ImagePositionPatient[1:]]
        dataset.save_as(tmp_path / "seg")
        assert np.array_equal(values_of(read(tmp_path)), three_nodes())

    def test_another_grid(self, axial: Series, tmp_path: Path) -> None:
        def move(plane: Any) -> None:
            plane.ImagePositionPatient = [plane.ImagePositionPatient[0] + 1, *plane.ImagePositionPatient[1:]]

        self.changed(axial, tmp_path, move)
        assert "another grid" in refusal(tmp_path)


def rtstruct(series: Series, path: Path, contours: list[dict[str, Any]], **roi: Any) -> None:
    """An RTSTRUCT of one ROI with contours as given: `points` in voxels (x, y, z), and anything else."""
    dataset = new_file(RTSTRUCT_CLASS)
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "RTSTRUCT", generate_uid(), series.study
    one = item(SeriesInstanceUID=series.uid, ContourImageSequence=[])
    study = item(RTReferencedSeriesSequence=[one])
    dataset.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID="1.2", RTReferencedStudySequence=[study])]
    dataset.StructureSetROISequence = [item(ROINumber=5, ROIName="Node A", **roi)]
    items = []
    for contour in contours:
        points = series.grid.world_of(np.array(contour.pop("points"), float))
        elements = {"ContourGeometricType": "CLOSED_PLANAR"} | contour
        data = [f"{value:.4f}" for value in points.ravel()]
        items.append(item(ContourData=data, NumberOfContourPoints=len(points), **elements))
    dataset.ROIContourSequence = [item(ReferencedROINumber=5, ContourSequence=items)]
    dataset.save_as(path, enforce_file_format=True)


def square(low: float, high: float, z: float) -> list[tuple[float, float, float]]:
    return [(low, low, z), (high, low, z), (high, high, z), (low, high, z)]


class TestRtstructs:
    def test_holes_and_several_contours(self, axial: Series, tmp_path: Path) -> None:
        contours = [{"points": square(0.5, 6.5, 2)}, {"points": square(2.5, 4.5, 2)}, {"points": square(7.5, 8.5, 2)}]
        rtstruct(axial, tmp_path / "rt", contours)
        expected = np.zeros((6, 10, 12), bool)
        expected[2, 1:7, 1:7] = True
        expected[2, 3:5, 3:5] = False
        expected[2, 8, 8] = True
        mask = read(tmp_path)
        assert np.array_equal(values_of(mask) == 1, expected)
        assert mask.names == ("Node A",)

    def test_a_contour_that_stands_there_twice(self, axial: Series, tmp_path: Path) -> None:
        rtstruct(axial, tmp_path / "rt", [{"points": square(0.5, 2.5, 1)}, {"points": square(0.5, 2.5, 1)}])
        assert values_of(read(tmp_path)).sum() == 4

    def test_contours_of_one_roi_in_several_items(self, axial: Series, tmp_path: Path) -> None:
        rtstruct(axial, tmp_path / "rt", [{"points": square(0.5, 2.5, 1)}, {"points": square(0.5, 2.5, 2)}])
        dataset = pydicom.dcmread(tmp_path / "rt")
        [whole] = dataset.ROIContourSequence
        parts = [item(ReferencedROINumber=5, ContourSequence=[contour]) for contour in whole.ContourSequence]
        dataset.ROIContourSequence = parts
        dataset.save_as(tmp_path / "rt")
        assert values_of(read(tmp_path)).sum(axis=(1, 2)).tolist() == [0, 4, 4, 0, 0, 0]

    @pytest.mark.parametrize(("slices", "apart"), [((0, 2, 4), "2"), ((0, 2, 5), "2 to 3"), ((0, 3), None), ((0, 1, 3, 5), None)])
    def test_contours_on_every_other_slice_are_told(
        self, axial: Series, tmp_path: Path, caplog: pytest.LogCaptureFixture, slices: tuple[int, ...], apart: str | None
    ) -> None:
        rtstruct(axial, tmp_path / "rt", [{"points": square(0.5, 2.5, z)} for z in slices])
        read(tmp_path)
        said = (
            f"Node A of {tmp_path / 'rt'}: its contours are {apart} slices apart, so it becomes stripes; fill the slices between"
        )
        assert (said in caplog.text) == (apart is not None)
        assert ("stripes" in caplog.text) == (apart is not None)

    def test_points_are_left_out(self, axial: Series, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        rtstruct(
            axial, tmp_path / "rt", [{"points": square(0.5, 2.5, 1)}, {"points": [(5, 5, 1)], "ContourGeometricType": "POINT"}]
        )
        with caplog.at_level(logging.INFO, "lnauto"):
            assert values_of(read(tmp_path)).sum() == 4
        assert "1 points or open lines are left out" in caplog.text

    @pytest.mark.parametrize(
        ("points", "said"),
        [
            (square(1.5, 3.5, 2.4), "lies on no slice of the series (at slice 3.40 of 6)"),
            (square(1.5, 3.5, 8), "lies on no slice of the series (at slice 9.00 of 6)"),
            ([(1, 1, 2), (3, 1, 2), (3, 3, 2), (1, 3, 4)], "leaves slice 3 by 6.0 mm"),
        ],
    )
    def test_off_the_slices(self, axial: Series, tmp_path: Path, points: list[Any], said: str) -> None:
        rtstruct(axial, tmp_path / "rt", [{"points": points}])
        assert said in refusal(tmp_path)

    def test_a_slice_by_its_reference(self, axial: Series, tmp_path: Path) -> None:
        _, frames = axial.lay_out()
        image = item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=frames[3].instance)
        rtstruct(axial, tmp_path / "rt", [{"points": square(1.5, 3.5, 2.7), "ContourImageSequence": [image]}])
        assert np.flatnonzero(values_of(read(tmp_path)).any(axis=(1, 2))).tolist() == [3]

    def test_broken_references(self, axial: Series, tmp_path: Path) -> None:
        image = item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.3.4")
        rtstruct(axial, tmp_path / "rt", [{"points": square(1.5, 3.5, 2), "ContourImageSequence": [image]}])
        assert "images that are not there (1.2.3.4, of series" in refusal(tmp_path)
        dataset = pydicom.dcmread(tmp_path / "rt")
        del dataset.ReferencedFrameOfReferenceSequence
        dataset.save_as(tmp_path / "rt")
        assert "does not say on which series it was drawn: its first image is 1.2.3.4" in refusal(tmp_path)

    def test_several_series_are_named_and_one_is_drawn_on(self, axial: Series, tmp_path: Path) -> None:
        other = write_series(tmp_path / "other", stored(seed=1), modality="MR")
        write_rtstruct(three_nodes(), axial, tmp_path / "rt")
        dataset = pydicom.dcmread(tmp_path / "rt")
        study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        study.RTReferencedSeriesSequence.insert(0, item(SeriesInstanceUID=other, ContourImageSequence=[]))
        dataset.save_as(tmp_path / "rt")
        mask = read(tmp_path)
        assert mask.series.uid == axial.uid
        assert np.array_equal(values_of(mask), three_nodes())
        for contour in (contour for roi in dataset.ROIContourSequence for contour in roi.ContourSequence):
            del contour.ContourImageSequence
        dataset.save_as(tmp_path / "rt")
        assert "it was drawn on 2 series" in refusal(tmp_path)

    def test_fill_agrees_with_the_definition(self) -> None:
        """A pixel belongs to a polygon if a ray from its centre crosses it an odd number of times."""
        rng = np.random.default_rng(0)
        polygon = rng.uniform(-1, 13, (9, 2))
        expected = np.zeros((12, 12), bool)
        for y in range(12):
            for x in range(12):
                crossed = 0
                for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                    if (y0 > y) != (y1 > y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                        crossed += 1
                expected[y, x] = crossed % 2 == 1
        assert np.array_equal(fill([polygon], (12, 12)), expected)

    @pytest.mark.parametrize("beside", [0.0, 0.015], ids=["exact", "rounded"])
    def test_outlines_from_centre_to_centre_hold_their_pixels_on_all_sides(self, beside: float) -> None:
        """As programs draw that follow a mask's outermost pixels."""
        box, hole = [(2, 3), (9, 3), (9, 8), (2, 8)], [(4, 5), (5, 4), (6, 4), (7, 5), (7, 6), (6, 7), (5, 7), (4, 6)]
        diamond, pixel, line = [(15, 2), (18, 5), (15, 8), (12, 5)], [(1, 10)], [(15, 10), (17, 12)]
        expected = np.zeros((14, 20), bool)
        expected[3:9, 2:10] = True
        expected[5, 5:7] = expected[6, 5:7] = False
        for y in range(14):
            expected[y, [x for x in range(20) if abs(x - 15) + abs(y - 5) <= 3]] = True
        expected[10, 1] = expected[10, 15] = expected[11, 16] = expected[12, 17] = True
        rng = np.random.default_rng(0)
        outlines = [np.array(corners, float) for corners in (box, hole, diamond, pixel, line)]
        drawn = [corners + rng.uniform(-beside, beside, corners.shape) for corners in outlines]
        assert np.array_equal(fill(drawn, (14, 20)), expected)
        assert np.array_equal(fill([corners - (10, 0) for corners in drawn], (14, 10)), expected[:, 10:])  # over the edge

    def test_an_outline_along_the_edges_of_pixels_holds_no_more(self) -> None:
        expected = np.zeros((12, 12), bool)
        expected[3:8, 2:9] = True
        edges = np.array([(1.5, 2.5), (8.5, 2.5), (8.5, 7.5), (1.5, 7.5)])
        assert np.array_equal(fill([edges], (12, 12)), expected)


class TestSeveralDrawings:
    def test_together(self, axial: Series, tmp_path: Path) -> None:
        truth = three_nodes()
        write_seg(np.where(truth == 1, 1, 0), axial, tmp_path / "a")
        write_rtstruct(np.where(truth == 2, 1, 0), axial, tmp_path / "b")
        mask = read(tmp_path)
        assert mask.names == ("Lymph node 1", "LN 1")
        assert np.array_equal(values_of(mask), np.where(truth == 3, 0, truth))

    def test_names(self, axial: Series, tmp_path: Path) -> None:
        write_rtstruct(three_nodes(), axial, tmp_path / "a", names={1: "Heart", 2: "GTVn", 3: "Lung"})
        assert read(tmp_path).names == ("GTVn",)
        write_rtstruct(three_nodes(), axial, tmp_path / "a", names={1: "Heart", 2: "Aorta", 3: "Lung"})
        assert "no object's name says lymph node (there: Heart, Aorta, Lung)" in refusal(tmp_path)

    def test_objects_that_are_left_out_are_named(self, axial: Series, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        mask = np.zeros((6, 10, 12), np.uint8)
        mask[2, 3, :] = np.arange(12) + 1
        organs = {number: f"Organ {number}" for number in range(2, 13)}
        write_rtstruct(mask, axial, tmp_path / "a", names={1: "LN 4R"} | organs)
        with caplog.at_level(logging.INFO, "lnauto"):
            assert read(tmp_path).names == ("LN 4R",)
            [line] = caplog.messages
            assert line.startswith(f"{tmp_path / 'a'}: left out, as their names do not say lymph node: Organ 2, Organ 3, ")
            assert line.endswith("Organ 11 and 1 more (--roi takes them).")
            caplog.clear()
            read(tmp_path, ".*")
            assert caplog.messages == []


@pytest.mark.realdata
class TestRealData:
    def test_rtstruct(self, realdata: Path) -> None:
        contents = read_folder(realdata / "dicom" / "ct_rtstruct")
        good = [one for one in contents.drawings if one.path.name == "rt.dcm"]
        values = values_of(read_mask(good, contents))
        assert [int(plane.sum()) for plane in values] == [1443, 0]  # a square of 24 mm less an octagon

    @pytest.mark.parametrize("name", ["invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"])
    def test_broken_rtstruct(self, realdata: Path, name: str) -> None:
        contents = read_folder(realdata / "dicom" / "ct_rtstruct")
        broken = [one for one in contents.drawings if one.path.name == name]
        with pytest.raises(InputError, match=r"images that are not there \(2.16.840.1.114362.1.11940992.23790159890"):
            read_mask(broken, contents, ".*")

    def test_every_seg_is_read(self, realdata: Path, tmp_path: Path) -> None:
        """Frame by frame, whatever it was drawn on; against highdicom's own reading."""
        contents = read_folder(realdata / "dicom" / "seg_samples")
        assert len(contents.drawings) == 12
        for drawing in contents.drawings:
            seg = load_seg(drawing.path)
            dataset = pydicom.dcmread(drawing.path)
            pixels = dataset.pixel_array
            whole = (
                pixels >= 0.5 * dataset.get("MaximumFractionalValue", 0) if "MaximumFractionalValue" in dataset else pixels > 0
            )
            assert sum(int(frame.pixels.sum()) for frame in seg.frames) == int(whole.sum()), drawing.path.name
            assert {frame.segment for frame in seg.frames} <= set(seg.names)

    def test_the_same_dots_however_they_are_tiled(self, realdata: Path) -> None:
        contents = read_folder(realdata / "dicom" / "seg_samples")
        sparse, full = (
            read_planes(one, contents)
            for name in ("seg_image_sm_dots.dcm", "seg_image_sm_dots_tiled_full.dcm")
            for one in contents.drawings
            if one.path.name == name
        )
        # the tiles' own numbers differ: in the first file the references count them down the columns, against the positions
        assert len(sparse) == len(full) == 24
        drawn = [
            sorted((number, pixels.tobytes()) for plane in planes.values() for number, pixels in plane.items())
            for planes in (sparse, full)
        ]
        assert drawn[0] == drawn[1]

    def test_images_beside_them_or_a_sentence(self, realdata: Path, tmp_path: Path) -> None:
        """The microscope's, the radiograph's and the single slice's images are no volume; a series that is absent is named."""
        alone = read_folder(realdata / "dicom" / "seg_samples")
        absent = {"seg_image_cr_binary.dcm", *(f"seg_image_ct_{name}.dcm" for name in ("binary", "binary_fractional"))}
        absent |= {f"seg_image_ct_{name}.dcm" for name in ("binary_overlap", "true_fractional")}
        for drawing in alone.drawings:
            if drawing.path.name in absent:
                with pytest.raises(InputError, match=rf"not there \(series {drawing.series[0]}\)"):
                    read_planes(drawing, alone)
            else:
                assert read_planes(drawing, alone)
            with pytest.raises(InputError, match=r"no volume|RGB|not there"):
                read_mask([drawing], alone, ".*")
        self.with_their_images(realdata, tmp_path, absent)

    def with_their_images(self, realdata: Path, folder: Path, names: set[str]) -> None:
        images = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests" / "77654033"
        shutil.copytree(images, folder / "images")
        for name in names:
            shutil.copy(realdata / "dicom" / "seg_samples" / name, folder)
        together: Contents = read_folder(folder)
        assert {drawing.path.name for drawing in together.drawings} == names
        for drawing in together.drawings:
            planes = read_planes(drawing, together)
            seg = load_seg(drawing.path)
            assert sum(int(pixels.sum()) for plane in planes.values() for pixels in plane.values()) == sum(
                int(frame.pixels.sum()) for frame in seg.frames
            )
