"""A model that is given away: in one file, which is looked at before it is used; for stock nnU-Net; as ONNX and OpenVINO."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sys
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
from building import write_image, write_random_model

from lnauto.inference import onnx_export, openvino_engine
from lnauto.inference.model import FINAL, load_checkpoint, load_model
from lnauto.networks import machine_cache
from lnauto.workflow import archive
from lnauto.workflow.head_files import HeadModel
from lnauto.workflow.node_table import NodeTable

Command = Callable[..., tuple[int, str, str]]
NAME = "LNTrainer__lnautoPlans__3d_fullres"
SECRETS = ("patient_muster", "/home/muster", "ball_00", "optimizer_state")


@pytest.fixture(scope="module")
def made(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two folds, and what a name or a folder may hide in; read-only."""
    folder = tmp_path_factory.mktemp("made") / "Dataset901_Balls" / NAME
    write_random_model(prepared / "preprocessed/Dataset901_Balls", folder)
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "unannotated": ["patient_muster"]}))
    plans = json.loads((folder / "plans.json").read_text())
    plans["lnauto"].update(region="lungs", foundation={"folder": "/home/muster/results/foundations/ln-fm"})
    plans["lnauto"]["inference"].update(smallest_node_mm3=30.0, tta="none", overlap=0.5)
    (folder / "plans.json").write_text(json.dumps(plans))
    figures = {
        "cases": 4,
        "labels": {"node": {"dice": {"mean": 0.8125}}},
        "nodes": {"all nodes": {"pooled": {"true": 12, "found": 9}, "false_per_case": 1.25}},
    }
    (folder / "fold_0/validation").mkdir()
    (folder / "fold_0/validation/evaluation.json").write_text(json.dumps(figures))
    return folder


@pytest.fixture
def model(made: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs beside a scan, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path / "cache")
    monkeypatch.setattr("lnauto.workflow.predict.measure_masks", lambda *_: NodeTable())  # of thousands of specks
    (tmp_path / "scans").mkdir()
    shutil.copy(prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz", tmp_path / "scans")
    return made


def exported(command: Command, model: Path, out: str, *flags: Any) -> str:
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


def test_it_can_be_imported_to_be_adapted(model: Path, packed: Path, command: Command) -> None:
    code, _, complaint = command("import_model", packed, "--name", "balls")
    assert (code, complaint) == (0, "")
    stored = load_checkpoint(Path("lnauto_data/results/foundations/balls/weights.pth"))["network_weights"]
    ours = load_checkpoint(model / "fold_0" / FINAL)["network_weights"]
    assert all(torch.equal(tensor, stored[name]) for name, tensor in ours.items())


def test_what_cannot_be_written_is_told(model: Path, command: Command) -> None:
    Path("file").write_text("in the way")
    for form in ([], ["--stock"]):
        code, _, complaint = command("export", model, "-o", "file/balls", *form)
        assert (code, complaint.count("\n"), "the export cannot be written (" in complaint) == (2, 1, True)


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


def test_an_export_that_fails_leaves_nothing(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "missing", lambda: ["onnx", "onnxscript"])
    before = sorted(os.listdir())
    assert command("export", model, "-o", "out", "--onnx")[::2] == (
        2,
        "lnauto: ONNX needs onnx and onnxscript, in --onnx; pip install 'lnauto[onnx]'\n",
    )
    assert command("export", model, "-o", "out", "-f", 7)[0] == 2
    assert sorted(os.listdir()) == before


# ---- files that are not what they should be


@pytest.fixture(scope="module")
def packed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fold; read-only."""
    from lnauto.workflow.export_model import Request, export
    from lnauto.workflow.predict import Request as Wanted

    return export(Wanted(model=made, folds=["0"]), tmp_path_factory.mktemp("packed") / "balls", Request())


Parts = dict[str, bytes]
Change = Callable[[Parts, dict[str, Any]], None]


def list_too(parts: Parts, manifest: dict[str, Any], name: str, content: bytes) -> None:
    """A further part, rightly listed."""
    parts[name] = content
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def rewritten(packed: Path, change: Change, link: str = "", compress: bool = False) -> Path:
    """The file again as `evil.lnauto`, with its parts and its manifest changed."""
    with zipfile.ZipFile(packed) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    manifest = json.loads(parts.pop("manifest.json"))
    change(parts, manifest)
    with zipfile.ZipFile("evil.lnauto", "w") as target:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **parts}.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if name == link else 0o100644) << 16
            target.writestr(entry, content, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    return Path("evil.lnauto")


def refused(command: Command, path: Path | str) -> str:
    """What is said of a file that is refused; nothing of it is left anywhere."""
    before = {file for file in Path().absolute().parent.rglob("*") if "cache" not in file.parts}
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", path, "--device", "cpu", "--quiet")
    assert (code, complaint.count("\n"), complaint.startswith("lnauto: ")) == (2, 1, True)
    assert {file for file in Path().absolute().parent.rglob("*") if "cache" not in file.parts} == before
    assert [file for file in Path("cache").rglob("*") if file.is_file()] == []
    assert not list(Path("cache/models").glob("*"))
    assert not Path("/evil_of_lnauto").exists()
    return complaint


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/evil_of_lnauto", "fold_0/../../evil", "fold_0/evil.py", "C:\\evil", "fold_0\\..\\evil", "evil.json",
        "fold_0/checkpoint_final.pth\n", "fold_٣/checkpoint_final.pth", "fold_0/LNM/../../head.json", "fold_0/",
    ],
)  # fmt: skip
def test_a_part_of_another_name_is_refused(model: Path, packed: Path, command: Command, name: str) -> None:
    evil = rewritten(packed, lambda parts, manifest: list_too(parts, manifest, name, b"evil"))
    assert f"it holds {name!r}, which is no part of a model, in evil.lnauto" in refused(command, evil)


def add_unlisted(parts: Parts, _: dict[str, Any]) -> None:
    parts["fold_1/checkpoint_final.pth"] = b"evil"


def leave_out(parts: Parts, _: dict[str, Any]) -> None:
    del parts["dataset.json"]


def tell_another_hash(_: Parts, manifest: dict[str, Any]) -> None:
    manifest["files"]["plans.json"]["sha256"] = "0" * 64


def tell_no_hash(_: Parts, manifest: dict[str, Any]) -> None:
    manifest["files"]["plans.json"] = None


def be_of_the_future(_: Parts, manifest: dict[str, Any]) -> None:
    manifest["version"] = 2


def leave_the_folder(_: Parts, manifest: dict[str, Any]) -> None:
    manifest["model"] = "../../LNTrainer__x__y"


def be_something_else(_: Parts, manifest: dict[str, Any]) -> None:
    manifest["format"] = "notes"


def read_elsewhere(parts: Parts, manifest: dict[str, Any]) -> None:
    content = {"trainer": "LNMTrainerMaskGate", "networks": ["../../../../secret.pth"]}
    list_too(parts, manifest, "fold_0/LNMTrainerMaskGate/head.json", json.dumps(content).encode())


def have_no_plan(parts: Parts, manifest: dict[str, Any]) -> None:
    list_too(parts, manifest, "plans.json", b"[]")


def break_the_plan(parts: Parts, manifest: dict[str, Any]) -> None:
    list_too(parts, manifest, "plans.json", b"{")


def hold_no_weights(parts: Parts, manifest: dict[str, Any]) -> None:
    list_too(parts, manifest, "fold_0/checkpoint_final.pth", b"\x80\x02cposix\nsystem\n.")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add_unlisted, "it holds other files than its manifest lists"),
        (leave_out, "it holds other files than its manifest lists"),
        (tell_another_hash, "plans.json is not what the manifest says"),
        (tell_no_hash, "the manifest has no hash of 'plans.json'"),
        (be_of_the_future, "this model file has the form 2, and lnauto"),
        (leave_the_folder, "the manifest does not say what is in the model"),
        (be_something_else, "this is no model file of lnauto, or it is cut off"),
        (read_elsewhere, "fold_0/LNMTrainerMaskGate/head.json names files outside the model"),
        (have_no_plan, "it holds no plan of lnauto's, in evil.lnauto"),
        (break_the_plan, "this is no model file of lnauto, or it is cut off, in evil.lnauto"),
        (hold_no_weights, "checkpoint_final.pth of fold_0 holds no weights"),
    ],
)
def test_what_the_manifest_does_not_bear_out_is_refused(
    model: Path, packed: Path, command: Command, change: Change, said: str
) -> None:
    assert said in refused(command, rewritten(packed, change))


def test_links_bombs_and_doubles_are_refused(
    model: Path, packed: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(*_: Any) -> None:
        pass

    assert "plans.json is a link" in refused(command, rewritten(packed, same, link="plans.json"))
    assert "larger than a model of its size" in refused(command, rewritten(packed, same, compress=True))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(rewritten(packed, same), "a") as doubled:
        doubled.writestr("plans.json", b"{}")
    assert "it holds other files than its manifest lists" in refused(command, "evil.lnauto")
    monkeypatch.setattr(archive, "MOST_TEXT", 1000)
    evil = rewritten(packed, lambda parts, manifest: list_too(parts, manifest, "MODEL_CARD.md", bytes(1001)))
    assert "larger than a model of its size" in refused(command, evil)
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    assert "a model is of 2 at most" in refused(command, rewritten(packed, same))


def test_weights_that_swell_are_refused(model: Path, packed: Path, command: Command) -> None:
    with zipfile.ZipFile("swollen.pth", "w") as weights:
        weights.writestr("archive/data/0", bytes(1 << 20), zipfile.ZIP_DEFLATED)
    content = Path("swollen.pth").read_bytes()
    evil = rewritten(packed, lambda parts, manifest: list_too(parts, manifest, f"fold_0/{FINAL}", content))
    assert "the weights of fold_0 unpack to more than they are" in refused(command, evil)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("run",)


def test_code_in_the_weights_is_not_run(model: Path, packed: Path, command: Command) -> None:
    torch.save({"network_weights": Evil()}, "evil.pth")
    content = Path("evil.pth").read_bytes()
    evil = rewritten(packed, lambda parts, manifest: list_too(parts, manifest, f"fold_0/{FINAL}", content))
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", evil, "--quiet")
    assert (code, complaint.count("\n"), "would have to be unpickled" in complaint) == (2, 1, True)
    assert not Path("run").exists()


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(model: Path, packed: Path, command: Command, keep: float) -> None:
    content = packed.read_bytes()
    Path("cut.lnauto").write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    assert "this is no model file of lnauto, or it is cut off, in cut.lnauto; copy the file again" in refused(
        command, "cut.lnauto"
    )


def test_a_flipped_bit_is_found(model: Path, packed: Path, command: Command) -> None:
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    Path("flipped.lnauto").write_bytes(content)
    assert "in flipped.lnauto; copy the file again" in refused(command, "flipped.lnauto")


def test_files_of_other_programs_are_refused(model: Path, command: Command) -> None:
    Path("notes.lnauto").write_text("Dear diary")
    assert "this is no model file of lnauto" in refused(command, "notes.lnauto")
    with zipfile.ZipFile("other.lnauto", "w") as other:
        other.writestr("word/document.xml", "<w/>")
    assert "this is no model file of lnauto" in refused(command, "other.lnauto")


def test_a_cache_that_cannot_be_written_to_is_told(model: Path, packed: Path, command: Command) -> None:
    Path("cache").write_text("in the way")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", packed, "--quiet")
    assert (code, complaint.count("\n"), "cannot be unpacked into" in complaint) == (2, 1, True)


# ---- patient heads


@pytest.fixture(scope="module")
def heads(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a head of two parts, each of which reads the features of a network of its own."""
    from dataclasses import replace

    from bags import PLAN

    from lnauto.trainers.patient.abmil import LNMTrainerABMIL

    model = Path(shutil.copytree(made, tmp_path_factory.mktemp("heads") / NAME))
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


# ---- for others


def test_stock_nnunet_loads_it_without_lnauto_and_says_the_same(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    exported(command, model, "stock", "--stock")
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, verbose=False)
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lnauto"]:
            patch.setitem(sys.modules, name, None)  # to import it is an error
        predictor.initialize_from_trained_model_folder("stock", use_folds=None)
    assert predictor.trainer_name == "nnUNetTrainer"
    assert predictor.allowed_mirroring_axes == [2]
    assert "lnauto" not in predictor.plans_manager.plans
    tile = torch.randn(1, 1, 16, 16, 16)
    ours = load_model(model)
    for network, weights in zip(ours.networks, predictor.list_of_parameters, strict=True):
        predictor.network.load_state_dict(weights)
        with torch.inference_mode():
            assert torch.equal(predictor.network.eval()(tile), network(tile))
    card = Path("stock/MODEL_CARD.md").read_text()
    assert "- The scan is cropped to the region `lungs`: stock nnU-Net looks at all of it." in card
    assert "- What is smaller than 30 mm3 is left out: stock nnU-Net leaves it in." in card
    assert "`nnUNetv2_predict_from_modelfolder -i scans -o out -m stock -f 0 1`" in card


def test_what_stock_nnunet_cannot_build_is_refused(model: Path, command: Command) -> None:
    own = Path(shutil.copytree(model, Path("own") / NAME))
    plans = json.loads((own / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "lnauto.networks.multi_decoder.MultiDecoder"
    (own / "plans.json").write_text(json.dumps(plans))
    code, _, complaint = command("export", own, "-o", "stock", "--stock")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "stock nnU-Net cannot build the network lnauto.networks.multi_decoder.MultiDecoder" in complaint
    assert not [path for path in Path().iterdir() if "stock" in path.name]


def check_recipe(folder: Path | str, model: Path, folds: list[str]) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(Path(folder, "network.json").read_text())
    plans = json.loads((model / "plans.json").read_text())
    chosen, known = plans["configurations"]["3d_fullres"], plans["foreground_intensity_properties_per_channel"]["0"]
    assert [network["fold"] for network in recipe["networks"]] == folds
    steps = {step["step"]: step for step in recipe["before"]}
    assert steps["resample"]["spacing_mm"] == chosen["spacing"]
    [channel] = steps["normalise"]["channels"]
    assert (channel["mean"], channel["low"]) == (known["mean"], known["percentile_00_5"])
    assert recipe["before"][1]["to"] == "lungs"
    assert recipe["tiles"]["patch"] == chosen["patch_size"]
    assert recipe["tiles"]["mirroring"]["axes"] == [2]
    assert recipe["output"]["labels"] == {"background": 0, "node": 1}
    assert recipe["after"][-1]["smallest_node_mm3"] == 30
    for network in recipe["networks"]:
        assert network["sha256"] == hashlib.sha256(Path(folder, network["file"]).read_bytes()).hexdigest()
    return recipe


@pytest.fixture(scope="module")
def converted(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For OpenVINO; read-only."""
    from lnauto.workflow.export_model import Request, export
    from lnauto.workflow.predict import Request as Wanted

    return export(Wanted(model=made), tmp_path_factory.mktemp("converted") / "out", Request("openvino"))


def test_openvino_gives_the_networks_logits(model: Path, converted: Path) -> None:
    recipe = check_recipe(converted, model, ["0", "1"])
    tile = torch.randn(1, 1, 32, 16, 16)
    for told, network in zip(recipe["networks"], load_model(model).networks, strict=True):
        assert told["differs_from_pytorch"] < 1e-4
        with torch.inference_mode():
            expected = network(tile)
        found = openvino_engine.compile_network(converted / told["file"], tile.shape, "fp32")(tile)
        assert torch.allclose(found, expected, atol=1e-3, rtol=1e-3)
    assert sorted(path.name for path in (converted / "fold_0").iterdir()) == ["network.bin", "network.xml"]


def test_the_recipe_is_enough(model: Path, converted: Path, command: Command) -> None:
    """Somebody without lnauto follows network.json, on a scan of another spacing, of several tiles, with an empty border."""
    recipe = json.loads((converted / "network.json").read_text())
    scan = np.zeros((44, 40, 38), np.float32)
    scan[3:, :-2, 1:] = np.random.default_rng(0).normal(0, 80, (41, 38, 37))
    shutil.rmtree("scans")
    write_image(Path("scans/ball_06_0000.nii.gz"), scan, (2.0, 1.25, 1.5))
    mask = followed(recipe, converted / recipe["networks"][0]["file"], scan, np.array([2.0, 1.25, 1.5]))
    expected = predicted(command, model, "ours", "-f", 0)
    assert 0.01 < expected.astype(bool).mean() < 0.99
    assert (mask == expected).mean() > 0.999


def followed(recipe: dict[str, Any], network: Path, scan: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    from nnunetv2.preprocessing.resampling import resample_torch
    from scipy.ndimage import gaussian_filter

    before, after = ({step["step"]: step for step in recipe[key]} for key in ("before", "after"))
    order, patch = before["transpose"]["axes"], recipe["tiles"]["patch"]
    image = scan.transpose(order)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(image))
    inside = image[box]
    [how] = before["normalise"]["channels"]
    inside = (inside.clip(how["low"], how["high"]) - how["mean"]) / how["deviation"]
    wanted = np.array(before["resample"]["spacing_mm"])
    shape = [round(side) for side in inside.shape * spacing[order] / wanted]
    resample = getattr(resample_torch, before["resample"]["resampling_fn_data"])
    fine = resample(inside[None], shape, spacing[order], wanted, **before["resample"]["resampling_fn_data_kwargs"])[0]
    room = [max(least - side, 0) for side, least in zip(shape, patch, strict=True)]
    padding = [(more // 2, more - more // 2) for more in room]
    padded = np.pad(fine, padding)
    weight = np.zeros(patch)
    weight[tuple(side // 2 for side in patch)] = 1
    weight = gaussian_filter(weight, [side / 8 for side in patch], mode="constant")
    weight[weight == 0] = weight[weight > 0].min()
    run = openvino_engine.compile_network(network, (1, 1, *patch), "fp32")
    sums = np.zeros((2, *padded.shape))
    total = np.zeros(padded.shape)
    starts = []
    for side, least in zip(padded.shape, patch, strict=True):
        count = int(np.ceil((side - least) / ((1 - recipe["tiles"]["overlap"]) * least))) + 1
        starts.append([round(at) for at in np.linspace(0, side - least, count)])
    for corner in itertools.product(*starts):
        tile = tuple(slice(start, start + side) for start, side in zip(corner, patch, strict=True))
        logits = run(torch.from_numpy(padded[tile][None, None].astype(np.float32))).numpy()[0]
        sums[(slice(None), *tile)] += logits * weight
        total[tile] += weight
    unpadded = tuple(slice(first, first + side) for (first, _), side in zip(padding, shape, strict=True))
    logits = (sums / total)[(slice(None), *unpadded)]
    back = getattr(resample_torch, after["resample"]["resampling_fn_probabilities"])
    logits = back(logits, inside.shape, wanted, spacing[order], **after["resample"]["resampling_fn_probabilities_kwargs"])
    mask = np.zeros(image.shape, int)
    mask[box] = logits.argmax(0)
    return mask.transpose(after["transpose"]["axes"])


def test_onnx_gives_the_networks_logits(model: Path, command: Command) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    said = exported(command, model, "out", "--onnx", "-f", 1)
    assert said.count("\n") == 1  # what PyTorch's exporter has to say is not told
    recipe = check_recipe("out", model, ["1"])
    shape = recipe["input"]["shape"]
    assert shape == [1, 1, *recipe["tiles"]["patch"]]
    tile = torch.randn(shape)
    session = runtime.InferenceSession(str(Path("out", recipe["networks"][0]["file"])))
    [found] = session.run([recipe["output"]["name"]], {recipe["input"]["name"]: tile.numpy()})
    with torch.inference_mode():
        assert np.allclose(found, load_model(model, ["1"]).networks[0](tile).numpy(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", ["--onnx", "--openvino"])
def test_an_export_that_says_something_else_is_refused(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx_export, "export_onnx", lambda network, shape, path, names: path.touch())
    monkeypatch.setattr(onnx_export, "run_onnx", lambda path, tile: torch.zeros(1, 2, *tile.shape[2:]))
    monkeypatch.setattr(openvino_engine.OpenVinoNetwork, "__call__", lambda self, tile: torch.zeros(1, 2, *tile.shape[2:]))
    code, _, complaint = command("export", model, "-o", "out", form, "-f", 0)
    assert (code, complaint.count("\n"), "(its logits differ by 100.0 %)" in complaint) == (2, 1, True)
    assert not Path("out").exists()


def test_forms_exclude_each_other(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("export", "model", "-o", "out", "--stock", "--onnx")
    assert stopped.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err
