"""Contours become the pixels they enclose, or a sentence says why not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import item, new_file, stored, three_nodes, write_series
from drawn import read, refusal, the_series, values_of
from pydicom.uid import generate_uid

from lnauto.dicom.listing import RTSTRUCT_CLASS, Series
from lnauto.dicom.rtstruct import fill
from lnauto.dicom.write_rtstruct import write_rtstruct


@pytest.fixture
def axial(tmp_path: Path) -> Series:
    write_series(tmp_path, stored())
    return the_series(tmp_path)


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
