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
from dicom_files import OBLIQUE, stored, three_nodes, write_multiframe, write_series
from drawn import read, refusal, the_series, values_of
from pydicom.uid import generate_uid

from lnauto.dicom.listing import Contents, Series, read_folder
from lnauto.dicom.masks import read_mask
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
