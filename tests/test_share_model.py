"""A model that is given away in one file: it predicts the same, tells no names, and brings its patient heads along."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from bags import bright_bags

from lnauto.inference import onnx_export
from lnauto.inference.model import FINAL, load_checkpoint
from lnauto.networks import machine_cache
from lnauto.workflow import archive, export_model
from lnauto.workflow.head_files import HeadModel

Command = Callable[..., tuple[int, str, str]]
NAME = "LNTrainer__lnautoPlans__3d_fullres"
SECRETS = ("patient_muster", "/home/muster", "ball_00", "optimizer_state")


@pytest.fixture
def model(beside_scan: Path) -> Path:
    return beside_scan


def exported(command: Command, model: Path | str, out: str, *flags: Any) -> str:
    code, said, complaint = command("export", model, "-o", out, *flags)
    assert (code, complaint) == (0, "")
    return said


def predicted(command: Command, model: Path | str, out: str, *more: Any) -> np.ndarray:
    flags = ("--device", "cpu", "--precision", "fp32", "--engine", "torch", "--filter", "none", "--region", "none", "--quiet")
    code, _, complaint = command("predict", "-i", "scans", "-o", out, "-m", model, *flags, *more)
    assert code == 0, complaint
    return sitk.GetArrayFromImage(sitk.ReadImage(f"{out}/ball_06.nii.gz"))


# ---- one file


def test_one_file_predicts_what_its_folder_predicts(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    said = exported(command, model, "given/balls")
    assert f"{NAME}, fold 0, 1, is in given/balls.lnauto" in said
    assert os.listdir("given") == ["balls.lnauto"]
    expected = predicted(command, model, "before")
    assert 0.01 < expected.astype(bool).mean() < 0.99
    assert (predicted(command, "given/balls.lnauto", "after") == expected).all()
    [home] = (machine_cache.FOLDER / "models").iterdir()
    assert home.name == hashlib.sha256(Path("given/balls.lnauto").read_bytes()).hexdigest()[:16]
    monkeypatch.setattr(archive, "_unpack", lambda *_: pytest.fail("unpacked again"))
    again = predicted(command, "given/balls.lnauto", "again")
    assert (again == expected).all()
    assert json.loads(Path("again/run.json").read_text())["model"] == str(home / NAME)


def test_nothing_but_what_prediction_reads_is_in_it(model: Path, command: Command) -> None:
    exported(command, model, "balls.lnauto", "-f", 1)
    with zipfile.ZipFile("balls.lnauto") as packed:
        names = ["MODEL_CARD.md", "dataset.json", "fold_1/checkpoint_final.pth", "manifest.json", "plans.json"]
        assert sorted(packed.namelist()) == names
        told = b"".join(packed.read(name) for name in names)
    assert all(secret in (model / "fold_1" / FINAL).read_bytes().decode("latin-1") for secret in SECRETS[2:])
    assert [secret for secret in SECRETS if secret.encode() in told] == []
    ours, theirs = (load_checkpoint(folder / "fold_1" / FINAL) for folder in (model, archive.opened(Path("balls.lnauto"))))
    assert ours["network_weights"].keys() == theirs["network_weights"].keys()
    assert all(torch.equal(tensor, theirs["network_weights"][name]) for name, tensor in ours["network_weights"].items())
    assert theirs.keys() == {"network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes"}
    assert theirs["init_args"]["plans"]["lnauto"]["foundation"]["folder"] == "ln-fm"


def test_the_card_says_what_is_known_and_leaves_lines_for_the_rest(model: Path, command: Command) -> None:
    exported(command, model, "balls.lnauto")
    folder = archive.opened(Path("balls.lnauto"))
    card = (folder / "MODEL_CARD.md").read_text()
    for row in (
        "| segments | node (1) |",
        "| channels | CT (CTNormalization) |",
        "| spacing | 2 x 1.5 x 1.5 mm (z, y, x) |",
        "| trainer | LNTrainer |",
        "| strategy | full |",
        "| folds | 0, 1 |",
        "| region it looks at | lungs |",
        "| cases with masks | 6 |",
        "| fold 0 | 4 | node | 0.812 | 9 of 12 | 1.250 |",
        f"| plans.json | {hashlib.sha256((folder / 'plans.json').read_bytes()).hexdigest()} |",
    ):
        assert row in card
    assert card.count("to be filled in by you") == 7


def test_the_card_of_a_plan_that_does_not_say_who_made_it(model: Path, command: Command) -> None:
    shutil.copytree(model, "own")
    plans = json.loads(Path("own/plans.json").read_text())
    for name in ("strategy", "version"):
        plans["lnauto"].pop(name, None)
    Path("own/plans.json").write_text(json.dumps(plans))
    exported(command, Path("own"), "balls.lnauto")
    card = (archive.opened(Path("balls.lnauto")) / "MODEL_CARD.md").read_text()
    assert "| strategy | not said in its plan |" in card
    assert "| planned with | not said in its plan |" in card


def test_it_can_be_imported_to_be_adapted(model: Path, packed_model: Path, command: Command) -> None:
    code, _, complaint = command("import_model", packed_model, "--name", "balls")
    assert (code, complaint) == (0, "")
    stored = load_checkpoint(Path("lnauto_data/results/foundations/balls/weights.pth"))["network_weights"]
    ours = load_checkpoint(model / "fold_0" / FINAL)["network_weights"]
    assert all(torch.equal(tensor, stored[name]) for name, tensor in ours.items())


def test_what_cannot_be_written_is_told(model: Path, command: Command) -> None:
    Path("file").write_text("in the way")
    for form in ([], ["--stock"]):
        code, _, complaint = command("export", model, "-o", "file/balls", *form)
        assert (code, complaint.count("\n"), "cannot be written to (" in complaint) == (2, 1, True)


def test_what_is_there_is_kept(model: Path, command: Command) -> None:
    Path("balls.lnauto").write_text("mine")
    code, _, complaint = command("export", model, "-o", "balls.lnauto")
    assert (code, complaint.count("\n"), Path("balls.lnauto").read_text()) == (2, 1, "mine")
    exported(command, model, "balls.lnauto", "--overwrite")
    Path("notes").mkdir()
    Path("notes/diary.txt").write_text("mine")
    code, _, complaint = command("export", model, "-o", "notes", "--stock", "--overwrite")
    assert (code, "holds diary.txt, which no export wrote" in complaint) == (2, True)
    assert os.listdir("notes") == ["diary.txt"]
    exported(command, model, "stock", "--stock", "-f", 0)
    assert command("export", model, "-o", "stock", "--stock", "-f", 1)[0] == 2
    exported(command, model, "stock", "--stock", "-f", 1, "--overwrite")
    assert sorted(path.name for path in Path("stock").iterdir()) == ["MODEL_CARD.md", "dataset.json", "fold_1", "plans.json"]


def test_the_file_a_model_comes_from_is_not_replaced_by_its_export(packed_model: Path, model: Path, command: Command) -> None:
    shutil.copy(packed_model, "balls.lnauto")
    Path("link.lnauto").symlink_to("balls.lnauto")
    for out in ("balls.lnauto", "scans/../balls", "link"):
        code, _, complaint = command("export", "balls.lnauto", "-o", out, "--overwrite")
        assert code == 2
        assert complaint == f"lnauto: the export would replace the model that it is made of, in {out}; give another -o\n"
    assert Path("balls.lnauto").read_bytes() == packed_model.read_bytes()
    exported(command, "balls.lnauto", "copy")


def test_an_export_that_fails_leaves_nothing(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "missing", lambda: ["onnx", "onnxscript"])
    before = sorted(os.listdir())
    assert command("export", model, "-o", "out", "--onnx")[::2] == (
        2,
        "lnauto: ONNX needs onnx and onnxscript, in --onnx; pip install 'lnauto[onnx]'\n",
    )
    assert command("export", model, "-o", "out", "-f", 7)[0] == 2
    assert command("export", model, "-o", "new/er/out", "--onnx")[0] == 2
    monkeypatch.setattr(export_model, "pack", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert command("export", model, "-o", "new/er/out")[0] == 2
    assert command("export", model, "-o", "new/er/../out")[0] == 2
    assert sorted(os.listdir()) == before


# ---- patient heads


@pytest.fixture(scope="module")
def heads(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a head of two parts, each of which reads the features of a network of its own."""
    from dataclasses import replace

    from bags import PLAN

    from lnauto.trainers.patient.abmil import LNMTrainerABMIL

    model = Path(shutil.copytree(random_model, tmp_path_factory.mktemp("heads") / NAME))
    trainer = LNMTrainerABMIL()
    head = replace(trainer, schedule=replace(trainer.schedule, steps=2)).train(bright_bags(20), ["age"], PLAN)
    networks = []
    for number in range(2):
        networks.append(model / f"fold_0/inner_networks/part_{number}" / FINAL)
        networks[-1].parent.mkdir(parents=True)
        shutil.copy(model / "fold_1" / FINAL, networks[-1])
    HeadModel("LNMTrainerMaskGate", (head, head), tuple(networks)).save(
        model / "fold_0/LNMTrainerMaskGate", {"of": "/home/muster"}
    )
    HeadModel(head.trainer, (head,)).save(model / "fold_0/LNMTrainerABMIL", {"masks": "predicted"})
    return model


def test_heads_and_the_networks_they_read_come_along(model: Path, heads: Path, command: Command) -> None:
    exported(command, heads, "balls.lnauto")
    folder = archive.opened(Path("balls.lnauto"))
    for name in ("LNMTrainerABMIL", "LNMTrainerMaskGate"):
        before, after = (HeadModel.load(place / "fold_0" / name) for place in (heads, folder))
        bags = bright_bags(4, seed=1)
        assert [part.logit(bags).tolist() for part in before.heads] == [part.logit(bags).tolist() for part in after.heads]
        assert after.threshold == before.threshold
        assert (len(before.patients), len(after.patients)) == (20, 0)
    assert after.networks == tuple((folder / f"fold_0/inner_networks/part_{n}" / FINAL).resolve() for n in range(2))
    assert all(load_checkpoint(network).keys() >= {"network_weights", "init_args"} for network in after.networks)
    with zipfile.ZipFile("balls.lnauto") as packed:
        told = b"".join(packed.read(name) for name in packed.namelist())
    assert [secret for secret in (*SECRETS, "p000") if secret.encode() in told] == []
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| patient heads | LNMTrainerABMIL, LNMTrainerMaskGate |" in card
    assert "| patients of LNMTrainerMaskGate, fold 0 | 20 |" in card
    exported(command, heads, "without.lnauto", "--without-heads")
    assert not [name for name in zipfile.ZipFile("without.lnauto").namelist() if "head" in name or "inner" in name]


def test_a_head_that_reads_a_file_of_this_machine_is_not_packed(model: Path, heads: Path, command: Command) -> None:
    own = Path(shutil.copytree(heads, Path("own") / NAME))
    path = own / "fold_0/LNMTrainerABMIL/head.json"
    content = json.loads(path.read_text())
    content["members"][0]["settings"]["dino"] = {"path": "/weights/dinov2.pth", "sha256": "0"}
    path.write_text(json.dumps(content))
    code, _, complaint = command("export", own, "-o", "balls.lnauto")
    assert (code, complaint.count("\n"), "the head reads dinov2.pth" in complaint) == (2, 1, True)
    assert not Path("balls.lnauto").exists()


def test_a_model_of_a_table_is_given_away_too(folders: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnauto.trainers.patient.clinical import LNMTrainerClinical

    monkeypatch.setattr(machine_cache, "FOLDER", folders / "cache")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"age": rng.normal(60, 10, 40)}, index=pd.Index([f"muster_{number}" for number in range(40)]))
    labels = pd.Series((rows["age"] > 60).astype(int), index=rows.index)
    model = folders / "results/Dataset701_Clinic/LNMTrainerClinical__lnautoPlans__table"
    (model / "fold_0").mkdir(parents=True)
    head = LNMTrainerClinical().train(rows, labels, ["age"])
    (model / "fold_0/head.json").write_text(json.dumps(head.to_json()))
    block = {"version": "0.1.0", "strategy": "image_level", "trainer": "LNMTrainerClinical"}
    plan = {"dataset_name": "Dataset701_Clinic", "plans_name": "lnautoPlans", "configurations": {}, "lnauto": block}
    (model / "plans.json").write_text(json.dumps(plan))
    Path("new.csv").write_text("patient,age\na,40\nb,80\n")
    code, _, complaint = command("export", "-d", 701, "-o", "clinic.lnauto")
    assert (code, complaint) == (0, "")
    assert b"muster" not in b"".join(map(zipfile.ZipFile("clinic.lnauto").read, zipfile.ZipFile("clinic.lnauto").namelist()))
    for where, out in ((model, "before"), ("clinic.lnauto", "after")):
        assert command("predict", "--patients", "new.csv", "-m", where, "-o", out, "--quiet")[0] == 0
    assert Path("after/patients.csv").read_text() == Path("before/patients.csv").read_text()
    code, _, complaint = command("export", model, "-o", "stock", "--stock")
    assert (code, complaint.count("\n"), "a patient head alone" in complaint) == (2, 1, True)
