"""`lnauto_convert`: what comes out is a data set that planning takes, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from building import write_image
from dicom_files import stored, three_nodes, write_series

from lnauto.data.checks import read_and_check
from lnauto.data.raw import RawDataset
from lnauto.dicom.listing import read_folder
from lnauto.dicom.volume import read_volume
from lnauto.dicom.write_rtstruct import write_rtstruct
from lnauto.dicom.write_seg import write_seg

Command = Callable[..., tuple[int, str, str]]


def add_case(folder: Path, seed: int = 0, mask: np.ndarray | None = None, kind: str = "SEG", **options: Any) -> None:
    write_series(folder / "ct", stored(seed=seed), **options)
    if mask is not None:
        [series] = read_folder(folder / "ct").series
        write = write_seg if kind == "SEG" else write_rtstruct
        write(mask, series, folder / "drawn", names={1: "LN 1", 2: "LN 2", 3: "Heart"})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three cases: with a SEG, with an RTSTRUCT, without a mask."""
    add_case(tmp_path / "in" / "anna", 0, three_nodes())
    add_case(tmp_path / "in" / "berta b", 1, three_nodes(), "RTSTRUCT")
    add_case(tmp_path / "in" / "clara", 2)
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "Dataset501_Nodes"


def description(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "dataset.json").read_text())
    return found


def values(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


class TestFolders:
    def test_the_data_set_is_sound(self, source: Path, out: Path, command: Command) -> None:
        code, said, wrong = command("convert", source, out, "--annotation", "partial")
        assert (code, wrong) == (0, "")
        assert "3 cases, 2 with a mask; CT" in said
        dataset, facts = read_and_check(out, progress=False)
        assert facts.label_values == {"anna": (0, 1), "berta_b": (0, 1)}
        assert description(out) == {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "node": 1},
            "file_ending": ".nii.gz",
            "annotation": "partial",
            "unannotated": ["clara"],
            "numTraining": 3,
        }
        [series] = read_folder(source / "anna").series
        image = sitk.ReadImage(str(dataset.cases[0].images[0]))
        volume = read_volume(series)
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(volume))
        assert image.GetOrigin() == pytest.approx(volume.GetOrigin(), abs=1e-3)
        for case in ("anna", "berta_b"):  # without a pattern, what is called a lymph node; the SEG's codes say it of the heart
            nodes = three_nodes() > 0 if case == "anna" else np.isin(three_nodes(), (1, 2))
            assert np.array_equal(values(out / "labelsTr" / f"{case}.nii.gz") == 1, nodes)

    def test_nodes_that_are_numbered(self, source: Path, out: Path, command: Command) -> None:
        assert command("convert", source, out, "--roi", "ln .*", "--instances")[0] == 0
        assert description(out)["instances"] is True
        for case in ("anna", "berta_b"):
            truth = np.where(three_nodes() == 3, 0, three_nodes())
            assert np.array_equal(values(out / "labelsTr" / f"{case}.nii.gz"), truth)
        read_and_check(out, progress=False)
        assert json.loads((out / "conversion.json").read_text())["cases"]["anna"]["objects"] == ["LN 1", "LN 2"]

    def test_one_bad_case_does_not_stop_the_others(self, source: Path, out: Path, command: Command) -> None:
        add_case(source / "bad", 3, heights=[0, 3, 6, 12, 15, 18])
        (source / "empty").mkdir()
        code, _, wrong = command("convert", source, out)
        assert code == 3
        assert "there is a gap of 6.00 mm" in wrong
        assert "there is no DICOM image, in case empty (" in wrong
        assert wrong.count("lnauto: ") == 2
        assert [case.name for case in RawDataset.read(out).cases] == ["anna", "berta_b", "clara"]

    def test_it_goes_on(self, source: Path, out: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        add_case(source / "bad", 3, heights=[0, 3, 6, 12, 15, 18])
        assert command("convert", source, out)[0] == 3
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
        shutil.rmtree(source / "bad")
        add_case(source / "bad", 3)
        (out / "imagesTr" / "clara_0000.nii.gz").unlink()
        code, said, _ = command("convert", source, out)
        assert code == 0
        assert "4 cases" in said
        after = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
        changed = {path.name for path in after if after[path] != before.get(path)}
        assert changed == {"bad_0000.nii.gz", "clara_0000.nii.gz"}

    def test_a_source_that_changed_is_told_and_what_was_converted_stays(self, source: Path, out: Path, command: Command) -> None:
        """Somebody may have corrected a mask in the data set."""
        assert command("convert", source, out)[0] == 0
        content = description(out) | {"licence": "CC BY 4.0", "annotation": "partial"}
        (out / "dataset.json").write_text(json.dumps(content))
        kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
        assert "changed since" not in command("convert", source, out)[1]
        shutil.rmtree(source / "anna")
        add_case(source / "anna", 0, np.roll(three_nodes(), 1, axis=2))
        shutil.rmtree(source / "clara")
        for _ in range(2):
            code, said, _ = command("convert", source, out)
            assert code == 0
            assert "The source of 1 converted cases has changed since (such as anna). They stay as they are" in said
            assert "1 converted cases are not in the source any more (such as clara)" in said
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")} == kept
        assert description(out) == content
        before = values(out / "labelsTr/anna.nii.gz")
        for path in (out / "labelsTr/anna.nii.gz", out / "imagesTr/clara_0000.nii.gz"):
            path.unlink()
        code, said, _ = command("convert", source, out)
        assert code == 0
        assert "2 cases, 2 with a mask" in said
        assert "such as" not in said
        assert (values(out / "labelsTr/anna.nii.gz") != before).any()

    def test_a_killed_conversion_goes_on(
        self, source: Path, out: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lnauto.workflow import convert

        whole = convert.convert_case

        def stop_at_berta(case: Any, *rest: Any) -> Any:
            if case.name == "berta_b":
                raise KeyboardInterrupt
            return whole(case, *rest)

        monkeypatch.setattr(convert, "convert_case", stop_at_berta)
        assert command("convert", source, out)[0] == 130
        assert not (out / "dataset.json").exists()
        seen = []
        monkeypatch.setattr(convert, "convert_case", lambda case, *rest: seen.append(case.name) or whole(case, *rest))
        assert command("convert", source, out)[0] == 0
        assert seen == ["berta_b", "clara"]

    def test_other_settings_need_another_folder(self, source: Path, out: Path, command: Command) -> None:
        assert command("convert", source, out)[0] == 0
        code, _, wrong = command("convert", source, out, "--roi", "LN.*")
        assert code == 2
        assert "roi was '' and is 'LN.*'" in wrong

    def test_never_into_somebody_elses_folder(self, source: Path, out: Path, command: Command) -> None:
        out.mkdir(parents=True)
        (out / "mine.txt").write_text("precious")
        code, _, wrong = command("convert", source, out)
        assert code == 2
        assert "not begun by lnauto_convert" in wrong
        assert [path.name for path in out.iterdir()] == ["mine.txt"]

    @pytest.mark.parametrize(
        ("target", "said"), [("out/Nodes", "not called DatasetNNN_Name"), ("in/Dataset501_Nodes", "inside its source")]
    )
    def test_where_it_cannot_go(self, source: Path, tmp_path: Path, command: Command, target: str, said: str) -> None:
        code, _, wrong = command("convert", source, tmp_path / target)
        assert code == 2
        assert said in wrong
        assert not (tmp_path / target).exists()

    def test_an_unforeseen_fault_is_told_as_the_others(
        self, source: Path, out: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lnauto.workflow import convert_case

        whole = convert_case.read_volume

        def fail(series: Any) -> sitk.Image:
            if "clara" in str(series.folder):
                raise LookupError("odd file")
            return whole(series)

        monkeypatch.setattr(convert_case, "read_volume", fail)
        code, _, wrong = command("convert", source, out)
        assert code == 3
        assert "cannot be converted (LookupError), in case clara" in wrong

    def test_when_nothing_can_be_converted(self, tmp_path: Path, out: Path, command: Command) -> None:
        (tmp_path / "in" / "empty").mkdir(parents=True)
        assert command("convert", tmp_path / "in", out)[0] == 3
        assert not (out / "dataset.json").exists()


class TestSeveralSeries:
    @pytest.fixture
    def petct(self, tmp_path: Path) -> Path:
        """CT, and a coarser, lower PET of the same frame of reference, with a node drawn on the PET."""
        folder = tmp_path / "in" / "anna"
        write_series(folder / "a", stored((6, 20, 24)), frame_of_reference="1.2.9", uid="1.2.3", SeriesDescription="CT thorax")
        write_series(
            folder / "b", stored((5, 10, 12)), frame_of_reference="1.2.9", uid="1.2.4", modality="PT", spacing=(3.0, 3.0, 4.0),
            intercept=0.0, Units="GML", SeriesDescription="PET wb",
        )  # fmt: skip
        pet = next(one for one in read_folder(folder).series if one.modality == "PT")
        write_seg((three_nodes()[:5] == 2).astype(np.uint8), pet, folder / "drawn")
        return tmp_path / "in"

    def test_they_are_listed(self, petct: Path, out: Path, command: Command) -> None:
        code, _, wrong = command("convert", petct, out)
        assert code == 3
        assert 'there are 2 series: 1.2.3 "CT thorax" (CT, 6 slices, 2x1.5x3 mm); 1.2.4 "PET wb" (PT' in wrong

    def test_as_channels_on_the_first_ones_grid(self, petct: Path, out: Path, command: Command) -> None:
        assert command("convert", petct, out, "--channels", "CT", "PET")[0] == 0
        assert description(out)["channel_names"] == {"0": "CT", "1": "PET"}
        read_and_check(out, progress=False)
        pet, mask = values(out / "imagesTr" / "anna_0001.nii.gz"), values(out / "labelsTr" / "anna.nii.gz")
        assert pet.shape == (6, 20, 24)
        assert np.allclose(pet[:5, ::2, ::2], stored((5, 10, 12)), rtol=1e-5)  # the pixels whose centres coincide
        assert np.array_equal(mask[:5, ::2, ::2] == 1, three_nodes()[:5] == 2)
        assert not pet[5].any()  # above what the PET saw
        assert not mask[5].any()

    @pytest.mark.parametrize("instances", [(), ("--instances",)])
    def test_nodes_that_the_first_channel_is_too_coarse_for_are_named(
        self, tmp_path: Path, out: Path, command: Command, instances: tuple[str, ...]
    ) -> None:
        folder = tmp_path / "in" / "anna"
        one = {"frame_of_reference": "1.2.9", "origin": (0, 0, 0)}
        write_series(folder / "a", stored((12, 20, 24)), spacing=(1, 1, 1), **one)
        coarse = stored((4, 7, 8))
        write_series(folder / "b", coarse, modality="PT", spacing=(3, 3, 3), intercept=0.0, Units="GML", **one)
        ct = next(one for one in read_folder(folder).series if one.modality == "CT")
        mask = np.zeros((12, 20, 24), np.uint8)
        mask[3:9, 3:9, 3:9], mask[4, 13:15, 4] = 1, 2
        write_seg(mask, ct, folder / "drawn", names={1: "LN 4R", 2: "LN 7"})
        code, said, _ = command("convert", tmp_path / "in", out, "--channels", "PET", "CT", *instances)
        assert code == 0
        assert "Case anna: no voxel of the first channel's grid lies in LN 7; name the finer series first" in said
        assert np.unique(values(out / "labelsTr" / "anna.nii.gz")).tolist() == [0, 1]
        said = command("convert", tmp_path / "in", tmp_path / "Dataset502_Fine", "--channels", "CT", "PET", *instances)[1]
        assert "no voxel" not in said

    def test_one_by_its_description(self, petct: Path, out: Path, command: Command) -> None:
        assert command("convert", petct, out, "--series", "pet.*")[0] == 0
        assert description(out)["channel_names"] == {"0": "PET"}
        assert np.array_equal(values(out / "labelsTr" / "anna.nii.gz") == 1, three_nodes()[:5] == 2)

    def test_a_mask_of_the_series_that_was_not_chosen(self, petct: Path, out: Path, command: Command) -> None:
        code, _, wrong = command("convert", petct, out, "--channels", "CT")
        assert code == 3
        assert "what is drawn belongs to series that were not chosen" in wrong

    @pytest.mark.parametrize("side", [4.0, 3.0])
    def test_series_without_a_frame_of_reference_must_be_of_one_grid(
        self, tmp_path: Path, out: Path, command: Command, side: float
    ) -> None:
        folder = tmp_path / "in" / "anna"
        frameless = {"study": "1.2.1", "FrameOfReferenceUID": "", "spacing": (3.0, 3.0, 4.0)}
        write_series(folder / "a", stored(), **frameless)
        write_series(
            folder / "b", stored(), **frameless | {"spacing": (3.0, 3.0, side)}, modality="PT", intercept=0.0, Units="GML"
        )
        code, _, wrong = command("convert", tmp_path / "in", out, "--channels", "CT", "PET")
        assert code == (0 if side == 4.0 else 3)
        assert ("has a frame of reference" in wrong) == (side == 3.0)

    def test_other_frames_of_reference(self, petct: Path, out: Path, command: Command) -> None:
        shutil.rmtree(petct / "anna" / "b")
        (petct / "anna" / "drawn").unlink()
        write_series(petct / "anna" / "b", stored(), modality="PT", intercept=0.0, Units="GML")
        code, _, wrong = command("convert", petct, out, "--channels", "CT", "PET")
        assert code == 3
        assert "frame of reference" in wrong

    def test_several_drawings(self, source: Path, out: Path, command: Command, tmp_path: Path) -> None:
        [series] = read_folder(source / "clara").series
        for number in (1, 2):
            write_rtstruct((three_nodes() == number).astype(np.uint8), series, source / "clara" / f"reader_{number}")
        code, _, wrong = command("convert", source, out)
        assert code == 3
        assert "there are 2 SEG or RTSTRUCT objects" in wrong
        (source / "anna" / "drawn").rename(source / "anna" / "reader_2")
        (source / "berta b" / "drawn").rename(source / "berta b" / "reader_2")
        other = tmp_path / "Dataset502_Reader"
        assert command("convert", source, other, "--structures", "reader_2", "--roi", "LN.*")[0] == 0
        assert np.array_equal(values(other / "labelsTr" / "clara.nii.gz") == 1, three_nodes() == 2)


class TestPlainFiles:
    @pytest.fixture
    def plain(self, tmp_path: Path) -> Path:
        """Images and masks called alike; the last without a mask."""
        rng = np.random.default_rng(0)
        for name in ("a", "b", "c"):
            write_image(tmp_path / "scans" / f"{name}.nrrd", rng.normal(0, 50, (8, 9, 10)).astype(np.float32))
        for name in ("a", "b"):
            mask = np.zeros((8, 9, 10), np.uint8)
            mask[2:4, 2:4, 2:4] = 1
            write_image(tmp_path / "drawn" / f"{name}.nrrd", mask)
        return tmp_path

    def test_are_named_and_not_copied(self, plain: Path, out: Path, command: Command) -> None:
        code, _, wrong = command(
            "convert", "--images", plain / "scans", "--masks", plain / "drawn", "--channels", "CT", "--annotation", "full", out
        )
        assert (code, wrong) == (0, "")
        assert sorted(path.name for path in out.rglob("*")) == ["conversion.json", "dataset.json"]
        assert description(out)["file_ending"] == ".nrrd"
        dataset, facts = read_and_check(out, progress=False)
        assert dataset.cases[0].images == (plain / "scans" / "a.nrrd",)
        assert (facts.cases, facts.annotated) == (3, 2)
        assert description(out)["unannotated"] == ["c"]

    def test_a_bad_one_is_left_out(self, plain: Path, out: Path, command: Command) -> None:
        write_image(plain / "drawn" / "b.nrrd", np.ones((8, 9, 11), np.uint8))
        write_image(plain / "drawn" / "c.nrrd", np.full((8, 9, 10), 5, np.uint8))
        code, _, wrong = command("convert", out, "--images", plain / "scans", "--masks", plain / "drawn", "--channels", "CT")
        assert code == 3
        assert "case b" in wrong
        assert "the label holds 5" in wrong
        assert (plain / "scans" / "b.nrrd").is_file()
        assert [case.name for case in RawDataset.read(out).cases] == ["a"]

    @pytest.mark.parametrize("numbers", [(0, 2), (1, 2)])
    def test_channels_that_are_not_numbered_from_0_without_a_gap(
        self, tmp_path: Path, out: Path, command: Command, numbers: tuple[int, int]
    ) -> None:
        for number in numbers:
            write_image(tmp_path / "scans" / f"a_{number:04d}.nrrd", np.random.default_rng(number).normal(size=(8, 9, 10)))
        code, _, wrong = command("convert", out, "--images", tmp_path / "scans", "--channels", "CT", "PET")
        assert code == 2
        assert f"its channels are numbered {numbers[0]:04d}, {numbers[1]:04d}, not from 0000" in wrong

    def test_two_files_of_one_name(self, plain: Path, out: Path, command: Command) -> None:
        write_image(plain / "scans" / "a.nii.gz", np.zeros((8, 9, 10)))
        code, _, wrong = command("convert", out, "--images", plain / "scans", "--channels", "CT")
        assert (code, out.exists()) == (2, False)
        assert "a.nii.gz and a.nrrd are called alike" in wrong

    def test_names_that_do_not_match(self, plain: Path, out: Path, command: Command) -> None:
        (plain / "drawn" / "b.nrrd").rename(plain / "drawn" / "z.nrrd")
        code, _, wrong = command("convert", out, "--images", plain / "scans", "--masks", plain / "drawn", "--channels", "CT")
        assert code == 2
        assert "this mask has no image" in wrong

    def test_what_has_to_be_said(self, plain: Path, out: Path, command: Command) -> None:
        assert "name the channels" in command("convert", "--images", plain / "scans", out)[2]
        write_image(plain / "scans" / "d.nii.gz", np.ones((8, 9, 10), np.uint8))
        assert "the files end differently" in command("convert", out, "--images", plain / "scans", "--channels", "CT")[2]
        assert "not clear where the scans are" in command("convert", out)[2]
        assert "not clear where the scans are" in command("convert", plain / "scans", out, "--masks", plain / "drawn")[2]
        assert not out.exists()

    def test_a_table_of_paths(self, plain: Path, out: Path, command: Command) -> None:
        table = plain / "paths.csv"
        table.write_text(
            "case,image_0,image_1,mask\none,scans/a.nrrd,scans/c.nrrd,drawn/a.nrrd\ntwo,scans/b.nrrd,scans/c.nrrd,\n"
        )
        assert command("convert", table, out, "--channels", "CT", "PET")[0] == 0
        dataset, _ = read_and_check(out, progress=False)
        assert [case.name for case in dataset.cases] == ["one", "two"]
        assert dataset.cases[0].images == (plain / "scans" / "a.nrrd", plain / "scans" / "c.nrrd")
        assert dataset.unannotated_cases[0].name == "two"
        table.write_text(
            "case,image_0,image_1,mask\none,scans/a.nrrd,scans/c.nrrd,drawn/b.nrrd\ntwo,scans/b.nrrd,scans/c.nrrd,drawn/a.nrrd\n"
        )
        assert command("convert", table, out, "--channels", "CT", "PET")[0] == 0  # it only names files, so it follows the table
        assert [case.label for case in RawDataset.read(out).cases] == [plain / "drawn" / "b.nrrd", plain / "drawn" / "a.nrrd"]

    def test_a_table_with_dicom_in_it(self, source: Path, out: Path, command: Command) -> None:
        table = source.parent / "paths.csv"
        table.write_text("case,image,mask\none,in/anna/ct,in/anna/drawn\ntwo,in/berta b,\nthree,in/clara/ct,\n")
        assert command("convert", table, out)[0] == 0
        dataset, facts = read_and_check(out, progress=False)
        assert {case.name for case in dataset.annotated_cases} == {"one", "two"}
        assert facts.label_values["one"] == (0, 1)

    def test_a_table_of_dicom_with_masks_that_are_files(self, source: Path, out: Path, command: Command) -> None:
        [series] = read_folder(source / "clara").series
        mask = source.parent / "drawn.nii.gz"
        sitk.WriteImage(series.grid.image(np.uint8(three_nodes() > 0)), str(mask))
        table = source.parent / "paths.csv"
        table.write_text("case,image,mask\none,in/clara/ct,drawn.nii.gz\ntwo,in/anna,\n")
        for _ in range(2):
            assert command("convert", table, out)[0] == 0
        dataset, facts = read_and_check(out, progress=False)
        assert [case.label for case in dataset.cases] == [mask, out / "labelsTr" / "two.nii.gz"]
        assert dataset.cases[0].images == (out / "imagesTr" / "one_0000.nii.gz",)
        assert facts.label_values == {"one": (0, 1), "two": (0, 1)}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("case,scan\na,b\n", "no column case, or none of images"),
            ("case,image\na,nothing.nrrd\n", "there is no"),
            ("case,image,mask\n,scans/a.nrrd,\n", "the row lacks its case"),
            ("case,image\na,scans/a.nrrd\na,scans/b.nrrd\n", "several cases are called a"),
            ("case,image\n", "no rows"),
        ],
    )
    def test_tables_that_are_wrong(self, plain: Path, out: Path, command: Command, text: str, said: str) -> None:
        (plain / "paths.csv").write_text(text)
        code, _, wrong = command("convert", plain / "paths.csv", out, "--channels", "CT")
        assert code == 2
        assert said in wrong
        assert not out.exists()


class TestPatients:
    def test_rows_of_one_patient_are_put_together(self, source: Path, out: Path, command: Command, tmp_path: Path) -> None:
        table = tmp_path / "who.csv"
        table.write_text("Scan;Pat;lnm;age\nanna;P1;1;61,5\nberta b;P1;1;61,5\nclara;P2;0;\nnobody;P3;0;40\n")
        code, _, wrong = command(
            "convert", source, out, "--table", table, "--patient-column", "Pat", "--id-column", "Scan"
        )  # fmt: skip
        assert (code, wrong) == (0, "")
        patients = RawDataset.read(out).patients
        assert patients is not None
        assert patients.cases_of == {"P1": ("anna", "berta_b"), "P2": ("clara",)}
        assert patients.frame["lnm"].tolist() == [1.0, 0.0]
        assert patients.frame["age"]["P1"] == 61.5

    def test_cases_that_failed_are_not_in_it(self, source: Path, out: Path, command: Command, tmp_path: Path) -> None:
        add_case(source / "bad", 3, heights=[0, 3, 6, 12, 15, 18])
        (tmp_path / "who.csv").write_text("patient,lnm\nanna,1\nbad,0\nclara,0\n")
        assert command("convert", source, out, "--table", tmp_path / "who.csv")[0] == 3
        patients = RawDataset.read(out).patients
        assert patients is not None
        assert patients.patients == ("anna", "clara")

    def test_patient_labels_without_masks(self, source: Path, out: Path, command: Command, tmp_path: Path) -> None:
        (tmp_path / "who.csv").write_text("patient,lnm\nanna,1\nberta_b,0\nclara,0\n")
        assert command("convert", source, out, "--table", tmp_path / "who.csv", "--annotation", "patient")[0] == 0
        assert not (out / "labelsTr").exists()
        assert read_and_check(out, progress=False)[0].annotation == "patient"

    @pytest.mark.parametrize(
        ("text", "flags", "said"),
        [
            ("who,lnm\nanna,1\n", [], 'no column "patient" (there: who, lnm)'),
            ("patient,lnm\nx,1\ny,0\n", [], "no row of the table belongs to a case"),
            ("patient,cases,lnm\nP,anna,1\nP,clara,0\n", [], 'rows of patient P differ in "lnm" (1, 0)'),
            ("patient,lnm\nanna,7\n", [], '"lnm" of patient anna is "7"'),
        ],
    )
    def test_told_before_anything_is_converted(
        self, source: Path, out: Path, command: Command, tmp_path: Path, text: str, flags: list[str], said: str
    ) -> None:
        (tmp_path / "who.csv").write_text(text)
        code, _, wrong = command("convert", source, out, "--table", tmp_path / "who.csv", *flags)
        assert code == 2
        assert said in wrong
        assert not out.exists()


@pytest.mark.realdata
def test_real_series(realdata: Path, tmp_path: Path, out: Path, command: Command) -> None:
    """A good series, a compressed one, one with RTSTRUCTs of which two are broken; and those that must fail."""
    for name in ("mr_17_slices", "compressed_jpegls", "ct_rtstruct", "must_fail/gantrytilting", "must_fail/slicecount"):
        shutil.copytree(realdata / "dicom" / name, tmp_path / "in" / Path(name).name)
    code, said, wrong = command("convert", tmp_path / "in", out, "--channels", "scan", "--roi", "ROI-.*")
    assert code == 3
    assert [line.split(",")[0] for line in sorted(wrong.splitlines())] == [
        "lnauto: it was taken with a tilted gantry (14.0 degrees)",
        "lnauto: slices are missing: of a slab that was acquired in 3D only 2 are there",
    ]
    assert said.count("Left out: it refers to images that are not there") == 2
    dataset, facts = read_and_check(out, progress=False)
    assert [case.name for case in dataset.cases] == ["compressed_jpegls", "ct_rtstruct", "mr_17_slices"]
    assert facts.label_values == {"ct_rtstruct": (0, 1)}
