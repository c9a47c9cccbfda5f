"""Whose the masks in a folder of results are: of which scan, of which model; and that no scan is replaced by one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

Command = Callable[..., tuple[int, str, str]]
QUICK = ("--quiet", "--device", "cpu", "--precision", "fp32", "--engine", "torch", "--no-report")


@pytest.fixture
def asked(beside_scan: Path) -> tuple[object, ...]:
    return ("-m", beside_scan, "-f", 0, *QUICK)


SCAN = Path("scans/ball_06_0000.nii.gz")


def test_a_scan_given_as_a_file_is_not_replaced_by_its_mask(asked: tuple[object, ...], command: Command) -> None:
    scan = SCAN.rename("scans/a.nii.gz")
    before = scan.read_bytes()
    for flags in ((), ("--overwrite",)):
        code, _, complaint = command("predict", "-i", scan, "-o", "scans/../scans", *asked, *flags)
        assert code == 2
        assert complaint.startswith("lnauto: the scans and the results are in one folder, in scans/../scans; ")
    assert scan.read_bytes() == before
    assert [path.name for path in Path("scans").iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("kind", [".", "probabilities", "attention"])
def test_a_scan_that_a_link_leads_to_is_not_replaced(asked: tuple[object, ...], command: Command, kind: str) -> None:
    scan = Path("out", kind, "a.nii.gz")
    scan.parent.mkdir(parents=True)
    shutil.move(SCAN, scan)
    Path("scans/a_0000.nii.gz").symlink_to(scan.resolve())
    before = scan.read_bytes()
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", *asked, "--overwrite")
    assert code == 2
    what = "lnauto: the scan would be replaced by what is predicted for case a"
    assert complaint == f"{what}, in {scan}; give another folder with -o\n"
    assert scan.read_bytes() == before


# ---- of which scan


def other_scan(place: Path) -> None:
    """A scan of another patient, of the same name, size and grid."""
    image = sitk.ReadImage(str(SCAN))
    sitk.WriteImage(sitk.Cast(image + 3, image.GetPixelID()), str(place))


@pytest.mark.parametrize("ending", [".nii.gz", ".mhd"])
def test_a_mask_of_another_scan_of_the_same_name_is_not_kept(asked: tuple[object, ...], command: Command, ending: str) -> None:
    for patient in ("A", "B"):
        Path(patient).mkdir()
    sitk.WriteImage(sitk.ReadImage(str(SCAN)), f"A/ct{ending}")
    other_scan(Path(f"B/ct{ending}"))
    assert command("predict", "-i", "A", "-o", "out", *asked)[0] == 0
    mask = Path("out/ct.nii.gz").read_bytes()
    assert command("predict", "-i", "A", "-o", "out", *asked)[0] == 0
    code, _, complaint = command("predict", "-i", "B", "-o", "out", *asked)
    assert code == 2
    what = "lnauto: the mask that is there was made of another scan, in out/ct.nii.gz"
    assert complaint == f"{what}; give another folder with -o, or add --overwrite\n"
    assert Path("out/ct.nii.gz").read_bytes() == mask
    assert command("predict", "-i", "B", "-o", "out", *asked, "--overwrite")[0] == 0
    assert command("predict", "-i", "B", "-o", "out", *asked)[0] == 0


def test_a_record_of_an_earlier_version_is_gone_on_with(asked: tuple[object, ...], command: Command) -> None:
    """It says which model made the masks, and not of which scans."""
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    run = json.loads(Path("out/run.json").read_text())
    del run["cases"]
    Path("out/run.json").write_text(json.dumps(run))
    made = Path("out/ball_06.nii.gz").stat().st_mtime_ns
    other_scan(Path("scans/second.nii.gz"))
    for _ in range(2):
        assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
        assert Path("out/ball_06.nii.gz").stat().st_mtime_ns == made
    cases = json.loads(Path("out/run.json").read_text())["cases"]
    assert [len(cases[name]["images"]) for name in ("ball_06", "second")] == [0, 1]


# ---- of which model


@pytest.mark.parametrize("earlier", [False, True], ids=["", "of an earlier version"])
def test_masks_of_a_model_that_was_trained_anew_are_not_kept(
    asked: tuple[object, ...], beside_scan: Path, command: Command, earlier: bool
) -> None:
    model = Path(shutil.copytree(beside_scan, "another/LNTrainer__lnautoPlans__3d_fullres"))
    asked = ("-m", model, "-f", 0, *QUICK)
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    if earlier:  # one that did not say of which weights masks are
        run = json.loads(Path("out/run.json").read_text())
        for said in (run, *run["cases"].values()):
            del said["weights"]
        Path("out/run.json").write_text(json.dumps(run))
    shutil.copy(model / "fold_1/checkpoint_final.pth", model / "fold_0/checkpoint_final.pth")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", *asked)
    assert code == (0 if earlier else 2)
    what = f"lnauto: the masks that are there were made before this model was trained anew ({model.name}, fold 0), in out"
    assert earlier or complaint == f"{what}; give another folder with -o, or add --overwrite\n"
    assert command("predict", "-i", "scans", "-o", "out", *asked, "--overwrite")[0] == 0
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0


def test_a_mask_put_among_a_models_own_is_not_taken_for_one(asked: tuple[object, ...], command: Command) -> None:
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    other_scan(Path("scans/second.nii.gz"))
    shutil.copy("out/ball_06.nii.gz", "out/second.nii.gz")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", *asked)
    assert code == 2
    assert "nothing says that lnauto_predict made it, in out/second.nii.gz; " in complaint


def test_old_masks_do_not_pass_for_those_of_a_run_that_was_stopped(
    asked: tuple[object, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnauto.workflow import predict_cases as module

    other_scan(Path("scans/second.nii.gz"))
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    old = {path.name: path.read_bytes() for path in Path("out").glob("*.nii.gz")}
    real, again = module.predict_cases, [*asked[:2], "-f", 1, *QUICK]

    def stopped(*arguments: Any) -> Any:
        yield next(real(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "predict_cases", stopped)
        assert command("predict", "-i", "scans", "-o", "out", *again, "--overwrite")[0] == 130
    assert command("predict", "-i", "scans", "-o", "out", *again)[0] == 0
    assert not {name for name, content in old.items() if Path("out", name).read_bytes() == content}


def test_the_old_mask_of_a_scan_that_fails_is_in_no_table(asked: tuple[object, ...], command: Command) -> None:
    other_scan(Path("scans/second.nii.gz"))
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    Path("scans/second.nii.gz").write_bytes(b"no image")
    assert command("predict", "-i", "scans", "-o", "out", *asked[:2], "-f", 1, *QUICK, "--overwrite")[0] == 3
    assert list(json.loads(Path("out/sources.json").read_text())["cases"]) == ["ball_06"]
    assert not Path("out/second.nii.gz").exists()


@pytest.mark.parametrize("scan_is_whole", [True, False])
def test_ones_own_mask_goes_only_when_another_takes_its_place(
    asked: tuple[object, ...], command: Command, scan_is_whole: bool
) -> None:
    Path("out").mkdir()
    Path("out/ball_06.nii.gz").write_text("mine")
    if not scan_is_whole:
        SCAN.write_bytes(b"no image")
    code = command("predict", "-i", "scans", "-o", "out", *asked, "--overwrite")[0]
    assert code == (0 if scan_is_whole else 3)
    assert (Path("out/ball_06.nii.gz").read_bytes() == b"mine") != scan_is_whole


def test_what_lies_beside_a_mask_goes_with_it(asked: tuple[object, ...], command: Command) -> None:
    assert command("predict", "-i", "scans", "-o", "out", *asked, "--save-probabilities")[0] == 0
    Path("out/attention").mkdir()
    old = [Path("out", name) for name in ("ball_06.seg.dcm", "ball_06.rtstruct.dcm", "attention/ball_06.nii.gz")]
    kept = [Path("out", name) for name in ("other.seg.dcm", "attention/other.nii.gz")]
    for path in (*old, *kept):
        path.touch()
    old.append(Path("out/probabilities/ball_06.nii.gz"))
    assert old[-1].is_file()
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    assert all(path.exists() for path in old)
    assert command("predict", "-i", "scans", "-o", "out", *asked, "--overwrite")[0] == 0
    assert [path for path in (*old, *kept) if path.exists()] == kept


# ---- made how


def test_masks_without_the_maps_that_are_asked_for_are_not_kept(asked: tuple[object, ...], command: Command) -> None:
    """The command said that it was done, and there was no map."""
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", *asked, "--save-probabilities")
    assert code == 2
    what = "lnauto: the mask that is there was made without --save-probabilities, in out/ball_06.nii.gz"
    assert complaint == f"{what}; give another folder with -o, or add --overwrite\n"
    for flags in (("--overwrite",), ()):
        assert command("predict", "-i", "scans", "-o", "out", *asked, "--save-probabilities", *flags)[0] == 0
        assert Path("out/probabilities/ball_06.nii.gz").is_file()


def test_masks_made_without_tiles_of_air_are_not_kept_where_all_are_wanted(
    asked: tuple[object, ...], beside_scan: Path, command: Command
) -> None:
    model = Path(shutil.copytree(beside_scan, "another/LNTrainer__lnautoPlans__3d_fullres"))
    plans = json.loads((model / "plans.json").read_text())
    plans["lnauto"]["region"] = "none"
    (model / "plans.json").write_text(json.dumps(plans))
    asked = ("-m", model, "-f", 0, *QUICK)
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", *asked, "--region", "none")
    assert code == 2
    assert "was made with another --region (tiles of air left out) (True, and now False), in out/ball_06.nii.gz; " in complaint
    assert json.loads(Path("out/run.json").read_text())["skips_air"] is True


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--tta", "full"), "--tta (none, and now full)"),
        (("--overlap", 0.25), "--overlap (0.5, and now 0.25)"),
        (("--filter", "none"), "--filter (mm3) (30.0, and now 0.0)"),
        (("--region", "none"), "--region (lungs, and now none)"),
        (("--precision", "bf16"), "--precision (fp32, and now bf16)"),
    ],
)
def test_masks_that_were_made_otherwise_are_not_kept(
    asked: tuple[object, ...], command: Command, flags: tuple[object, ...], told: str
) -> None:
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", *asked, *flags)
    assert (code, complaint) == (
        2,
        f"lnauto: the mask that is there was made with another {told}, in out/ball_06.nii.gz; "
        "give another folder with -o, or add --overwrite\n",
    )
    fastest = [flag for flag in asked if flag not in ("--precision", "fp32", "--engine", "torch")]
    assert command("predict", "-i", "scans", "-o", "out", *fastest)[0] == 0


# ---- the tables beside them


def test_an_earlier_heads_table_goes_with_its_masks_and_ones_own_stays(asked: tuple[object, ...], command: Command) -> None:
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    table = Path("out/patients.csv")
    table.write_text("mine")
    assert command("predict", "-i", "scans", "-o", "out", *asked, "--overwrite")[0] == 0
    assert table.read_text() == "mine"
    run = json.loads(Path("out/run.json").read_text())
    Path("out/run.json").write_text(json.dumps({**run, "head": "LNMTrainerMIL"}))
    assert command("predict", "-i", "scans", "-o", "out", *asked)[0] == 0
    assert table.is_file()  # it is still of these masks
    assert json.loads(Path("out/run.json").read_text())["head"] == "LNMTrainerMIL"
    assert command("predict", "-i", "scans", "-o", "out", *asked, "--overwrite")[0] == 0
    assert not table.exists()
    assert "head" not in json.loads(Path("out/run.json").read_text())


def test_masks_that_the_tables_leave_out_are_named(asked: tuple[object, ...], command: Command) -> None:
    loud = [flag for flag in asked if flag != "--quiet"]
    assert "leave out" not in "".join(command("predict", "-i", "scans", "-o", "out", *loud)[1:])
    Path("more").mkdir()
    other_scan(Path("more/second.nii.gz"))
    code, said, warned = command("predict", "-i", "more", "-o", "out", *loud)
    assert code == 0
    assert "leave out 1 masks of other scans that are in out (ball_06)." in said + warned
    assert list(json.loads(Path("out/sources.json").read_text())["cases"]) == ["second"]
