"""A model file from somebody else that is not what it should be is refused in a line, and leaves nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.utilities.plans_handling import plans_handler

from lnauto.errors import InputError
from lnauto.inference.model import FINAL, load_model
from lnauto.planners.plan import Plan
from lnauto.workflow import archive

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(beside_scan: Path) -> Path:
    return beside_scan


Parts = dict[str, bytes]
Change = Callable[[Parts, dict[str, Any]], None]


def list_too(parts: Parts, manifest: dict[str, Any], name: str, content: bytes) -> None:
    """A further part, rightly listed."""
    parts[name] = content
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def rewritten(packed_model: Path, change: Change, link: str = "", compress: bool = False) -> Path:
    """The file again as `evil.lnauto`, with its parts and its manifest changed."""
    with zipfile.ZipFile(packed_model) as source:
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
def test_a_part_of_another_name_is_refused(model: Path, packed_model: Path, command: Command, name: str) -> None:
    evil = rewritten(packed_model, lambda parts, manifest: list_too(parts, manifest, name, b"evil"))
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
    model: Path, packed_model: Path, command: Command, change: Change, said: str
) -> None:
    assert said in refused(command, rewritten(packed_model, change))


def test_links_bombs_and_doubles_are_refused(
    model: Path, packed_model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(*_: Any) -> None:
        pass

    assert "plans.json is a link" in refused(command, rewritten(packed_model, same, link="plans.json"))
    assert "larger than a model of its size" in refused(command, rewritten(packed_model, same, compress=True))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(rewritten(packed_model, same), "a") as doubled:
        doubled.writestr("plans.json", b"{}")
    assert "it holds other files than its manifest lists" in refused(command, "evil.lnauto")
    monkeypatch.setattr(archive, "MOST_TEXT", 1000)
    evil = rewritten(packed_model, lambda parts, manifest: list_too(parts, manifest, "MODEL_CARD.md", bytes(1001)))
    assert "larger than a model of its size" in refused(command, evil)
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    assert "a model is of 2 at most" in refused(command, rewritten(packed_model, same))


def test_weights_that_swell_are_refused(model: Path, packed_model: Path, command: Command) -> None:
    with zipfile.ZipFile("swollen.pth", "w") as weights:
        weights.writestr("archive/data/0", bytes(1 << 20), zipfile.ZIP_DEFLATED)
    content = Path("swollen.pth").read_bytes()
    evil = rewritten(packed_model, lambda parts, manifest: list_too(parts, manifest, f"fold_0/{FINAL}", content))
    assert "the weights of fold_0 unpack to more than they are" in refused(command, evil)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("run",)


def test_code_in_the_weights_is_not_run(model: Path, packed_model: Path, command: Command) -> None:
    torch.save({"network_weights": Evil()}, "evil.pth")
    content = Path("evil.pth").read_bytes()
    evil = rewritten(packed_model, lambda parts, manifest: list_too(parts, manifest, f"fold_0/{FINAL}", content))
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", evil, "--quiet")
    assert (code, complaint.count("\n"), "would have to be unpickled" in complaint) == (2, 1, True)
    assert not Path("run").exists()


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(model: Path, packed_model: Path, command: Command, keep: float) -> None:
    content = packed_model.read_bytes()
    Path("cut.lnauto").write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    assert "this is no model file of lnauto, or it is cut off, in cut.lnauto; copy the file again" in refused(
        command, "cut.lnauto"
    )


def test_a_flipped_bit_is_found(model: Path, packed_model: Path, command: Command) -> None:
    content = bytearray(packed_model.read_bytes())
    content[len(content) // 2] ^= 1
    Path("flipped.lnauto").write_bytes(content)
    assert "in flipped.lnauto; copy the file again" in refused(command, "flipped.lnauto")


def test_files_of_other_programs_are_refused(model: Path, command: Command) -> None:
    Path("notes.lnauto").write_text("Dear diary")
    assert "this is no model file of lnauto" in refused(command, "notes.lnauto")
    with zipfile.ZipFile("other.lnauto", "w") as other:
        other.writestr("word/document.xml", "<w/>")
    assert "this is no model file of lnauto" in refused(command, "other.lnauto")


def test_what_a_killed_run_had_begun_to_unpack_goes_with_the_next(
    packed_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnauto.networks import machine_cache

    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path / "cache")
    models = tmp_path / "cache/models"
    hour_ago = time.time() - archive.ABANDONED_SECONDS - 60
    for name in (".abandoned", ".at_work"):
        (models / name / "deadbeef").mkdir(parents=True)
        (models / name / "deadbeef/plans.json").write_text("{}")
        for path in (models / name / "deadbeef/plans.json", models / name / "deadbeef", models / name):
            os.utime(path, (hour_ago, hour_ago))
    os.utime(models / ".at_work/deadbeef/plans.json")
    home = archive.opened(packed_model).parent
    assert {path.name for path in models.iterdir()} == {".at_work", home.name}


def test_a_cache_that_cannot_be_written_to_is_told(model: Path, packed_model: Path, command: Command) -> None:
    Path("cache").write_text("in the way")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", packed_model, "--quiet")
    assert (code, complaint.count("\n"), "cannot be unpacked into" in complaint) == (2, 1, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("preprocessor_name", "sleep"),
        ("resampling_fn_data", "os.system"),
        ("resampling_fn_seg", "deepcopy"),
        ("resampling_fn_probabilities", "map_coordinates"),
        ("normalization_schemes", ["eval"]),
        ("image_reader_writer", "BaseReaderWriter"),
        ("label_manager", "print"),
    ],
)
def test_a_plan_names_only_what_is_on_the_list(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    """nnU-Net would search its folders for any of these, and call what it finds."""
    other = Path("other") / model.name
    shutil.copytree(model, other)
    plans = json.loads((other / "plans.json").read_text())
    (plans if key in plans else plans["configurations"]["3d_fullres"])[key] = value
    (other / "plans.json").write_text(json.dumps(plans))
    searched: list[str] = []
    monkeypatch.setattr(plans_handler, "recursive_find_python_class", lambda folder, name, module: searched.append(name))
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", other, "-f", 0, "--device", "cpu", "--quiet")
    name = value[0] if isinstance(value, list) else value
    assert (code, complaint.count("\n")) == (2, 1)
    assert f"the plan names {name} as its {key}, which is none of" in complaint
    assert searched == []
    assert not Path("out").exists()


def test_a_plan_to_train_by_names_only_what_is_on_the_list(model: Path) -> None:
    plan = Plan.load(model / "plans.json", "")
    plan.check("3d_fullres", model / "plans.json")
    plan.content["configurations"]["3d_fullres"]["resampling_fn_seg"] = "system"
    with pytest.raises(InputError, match="the plan names system as its resampling_fn_seg"):
        plan.check("3d_fullres", model / "plans.json")


def test_a_model_of_slices_is_refused_before_a_scan_is_read(random_model: Path, tmp_path: Path) -> None:
    model = tmp_path / random_model.name
    shutil.copytree(random_model, model)
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["patch_size"] = [16, 16]
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match="3d_fullres is two-dimensional, and only volumes are predicted"):
        load_model(model)
