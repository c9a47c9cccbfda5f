"""The demo: the whole way in one command; in full on demand, and a short form that every run of the tests includes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from pages import Reader

from lnauto.networks import probe
from lnauto.workflow import demo, patient_figures

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo points nnU-Net's variables to its own folder; afterwards they are what they were."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.pictures
@pytest.mark.usefixtures("_own_folders")
def test_a_short_demo_goes_the_whole_way_and_does_nothing_twice(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "seconds_per_step", lambda *_: 0.1)  # of a machine that may train for seconds
    monkeypatch.setattr(patient_figures, "draw_patients", lambda *_: None)  # twelve pictures, which no page shows
    arguments = ["--cases", 2, "--test-cases", 1, "--size", 32, "--budget", "15s", "--device", "cpu"]
    code, out, complaint = command("demo", "demo", *arguments)
    assert code == 0, complaint
    assert "there is no patients.csv" in out  # nothing but masks is trained
    assert "best HU threshold" in out
    assert "Budget of 0.2 min: training" in out
    assert json.loads((tmp_path / "demo/phantom.json").read_text())["seconds"] > 0
    assert (tmp_path / "demo/overlays/phantom_t000.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "demo/predictions/phantom_t000.nii.gz").is_file()
    figures = json.loads((tmp_path / "demo/demo.json").read_text())
    assert figures["network"]["cases"] == figures["threshold"]["cases"] == 1
    assert not (tmp_path / "elsewhere").exists()
    pages_of_the_demo(tmp_path / "demo")

    code, out, complaint = command("demo", "demo", *arguments)
    assert code == 0, complaint
    assert "The phantom is there already" in out
    assert "is trained already" in out

    code, _, complaint = command("demo", "demo", "--cases", 3, "--quiet")
    assert code == 2
    assert complaint.startswith("lnauto: there is a demo of other settings already, in ")


def pages_of_the_demo(folder: Path) -> None:
    """All that it leads to is there, and its figures are those of the JSON beside it."""
    page = (folder / "report.html").read_text()
    links = re.findall(r"<a href='([^']+)'", page)
    assert [link.rsplit("/", 1)[-1] for link in links] == ["report.html"] * 3 + ["comparison.html"]
    assert all((folder / link).is_file() for link in links)
    assert page.count('src="data:image/png;base64,') == 1
    figures = json.loads((folder / "report.json").read_text())
    assert [row["of"] for row in figures["rows"]] == ["network", "best HU threshold"]
    network = json.loads((folder / "demo.json").read_text())["network"]
    assert figures["rows"][0]["figures"]["false_per_case"]["value"] == network["nodes"]["all nodes"]["false_per_case"]
    head = (folder / links[2]).read_text()
    assert all(f"<h2>{title}</h2>" in head for title in ("The plan", "Patients", "Reporting checklists"))
    cells = Reader(page).rows["test-cases"]
    assert [row[0] for row in cells[1:]] == ["network", "best HU threshold"]
    assert cells[1][-1].startswith(f"{network['nodes']['all nodes']['false_per_case']:.2f}")


@pytest.mark.parametrize(("platform", "told"), [("linux", 2 * 2**20), ("darwin", 2 * 2**30)])
def test_the_memory_it_took_is_told_in_gb_wherever_it_runs(platform: str, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS tells it in bytes, Linux in KiB."""
    resource = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=told))
    monkeypatch.setitem(sys.modules, "resource", resource)
    monkeypatch.setattr(sys, "platform", platform)
    assert demo._peak_gb() == pytest.approx(2 * 2**30 / 1e9)


@pytest.mark.slow
@pytest.mark.usefixtures("_own_folders")
def test_the_demo_finds_the_nodes_and_a_threshold_does_not(tmp_path: Path, command: Command) -> None:
    code, _, complaint = command("demo", "demo", "--quiet", "--device", "cpu")
    assert code == 0, complaint
    figures = json.loads((tmp_path / "demo/demo.json").read_text())
    network, threshold = (figures[name]["nodes"]["all nodes"] for name in ("network", "threshold"))
    assert figures["network"]["mean_over_labels"]["dice"] >= 0.80
    assert network["pooled"]["recall"] >= 0.80
    assert network["false_per_case"] <= 2
    assert threshold["pooled"]["f1"] < 0.4


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 7.5), (25, 7.5), (70, 5.8), (600, 1.0)])
def test_a_slow_machine_trains_for_less_so_that_all_is_done_in_ten_minutes(seconds: float, minutes: float) -> None:
    assert demo.minutes_to_train(seconds / 60) == minutes
