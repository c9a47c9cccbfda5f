"""report.html: what it says, what is drawn, and that nothing in it acts but its own script."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pages import NASTY, Reader, pictured, scan

import lnauto
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme
from lnauto.inference.prediction import Prediction
from lnauto.report.page import Page, Section, embedded
from lnauto.report.prediction_page import CasePart, Story, prediction_page
from lnauto.report.tables import Column, Html, Table

Command = Callable[..., tuple[int, str, str]]


# ---- pieces of a page


def test_text_stays_text_wherever_it_stands() -> None:
    columns = [Column(NASTY, how=f'"{NASTY}'), Column("n", ".1f")]
    rows = [[NASTY, 1.0], [Html("<b>meant</b>", NASTY), None]]
    body = Table(NASTY, columns, rows, NASTY, notes=[NASTY], filtered=True)
    text = Page(NASTY, "", [Section(NASTY, NASTY, [body, embedded(NASTY, [f"</script>{NASTY}"])])]).html()
    reader = Reader(text)
    assert not [attributes for tag, attributes in reader.tags if tag == "img" or "onerror" in attributes]
    assert reader.data[NASTY] == [f"</script>{NASTY}"]
    assert [tag for tag, _ in reader.tags].count("b") == 1


def test_the_browser_is_told_to_load_nothing() -> None:
    reader = Reader(Page("title", "", []).html())
    policy = next(attributes["content"] for tag, attributes in reader.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:|\*", policy)


def test_cells_hold_numbers_as_they_are_to_be_read_and_as_they_sort() -> None:
    text = Table("t", [Column("name"), Column("size", ".1f")], [["a", 12.345], ["b", None], ["c", float("nan")]]).html()
    assert Reader(text).rows["t"] == [["name", "size"], ["a", "12.3"], ["b", "\u2013"], ["c", "\u2013"]]
    assert 'data-key="12.345"' in text


# ---- the page of a prediction


def node(number: int, short: float, **more: Any) -> dict[str, Any]:
    place = {f"centroid_{axis}_mm": 10.0 * number for axis in "xyz"}
    return {"node": number, "short_axis_mm": short, "long_axis_mm": 2 * short, "volume_mm3": 1000 * short, **place, **more}


def test_a_row_for_each_case_and_one_for_each_of_its_nodes() -> None:
    parts = [
        CasePart(
            "one", [node(1, 9.96, mean_CT=40.25, max_CT=80.0, p5_CT=1.0), node(2, 10.0, mean_CT=1.0, max_CT=2.0, p5_CT=1.0)]
        ),
        CasePart("two", [], missing="its scan is gone"),
    ]
    text = prediction_page(Story("out", {"model": "m"}, ["lnauto: three failed"]), parts).html()
    reader = Reader(text)
    assert reader.rows["patients"][1:] == [["one", "2", "1", "10.0", "19.96"], ["two", "0", "0", "\u2013", "0.00"]]
    heads, *rows = reader.rows["nodes-1"]
    assert heads[-2:] == ["mean CT", "highest CT"]
    assert rows[0] == ["1", "10.0", "19.9", "9.96", "10, 10, 10", "40.25", "80"]
    assert "its scan is gone" in text
    assert "lnauto: three failed" in text
    assert "nodes-2" not in reader.rows


def test_small_intensities_are_not_rounded_away() -> None:
    """Those of diffusion, in mm2/s."""
    page = prediction_page(Story("out", {}), [CasePart("one", [node(1, 8.0, mean_ADC=0.0010642, max_ADC=0.0019)])])
    assert Reader(page.html()).rows["nodes-1"][1][-2:] == ["0.001064", "0.0019"]


def test_patients_have_their_probabilities() -> None:
    patient = {
        "probability": "0.9",
        "probability_calibrated": "0.731",
        "low": "0.6",
        "high": "0.8",
        "class": "1",
        "flags": "age missing",
    }
    reader = Reader(prediction_page(Story("out", {}), [CasePart("one", [], patient), CasePart("two", [])]).html())
    assert reader.rows["patients"][1][-5:] == ["0.73", "0.60", "0.80", "positive", "age missing"]
    assert reader.rows["patients"][2][-5:] == ["\u2013"] * 5


# ---- from a folder


@pytest.fixture
def measured(tmp_path: Path, command: Command) -> Path:
    """Two masks of a CT, measured; one case has a name that is HTML."""
    image, instances = scan()
    for folder in ("masks", "scans"):
        (tmp_path / folder).mkdir()
    for name in ("plain", NASTY):
        for folder, array, end in (("masks", (instances > 0).astype(np.uint8), ""), ("scans", image.astype(np.int16), "_0000")):
            written = sitk.GetImageFromArray(array)
            written.SetSpacing((1.0, 1.0, 2.0))
            sitk.WriteImage(written, str(tmp_path / folder / f"{name}{end}.nii.gz"))
    flags = ("--images", tmp_path / "scans", "--channels", "CT", "--kind", "labels", "--quiet")
    code, _, complaint = command("measure", "-i", tmp_path / "masks", "-o", tmp_path / "out", *flags)
    assert code == 0, complaint
    return tmp_path / "out"


def test_the_page_of_measured_masks_says_what_the_table_says(measured: Path) -> None:
    reader = Reader((measured / "report.html").read_text(encoding="utf-8"))
    table_ = json.loads((measured / "nodes.json").read_text())
    assert [row[0] for row in reader.rows["patients"][1:]] == [NASTY, "plain"]
    for number, case in enumerate(table_["cases"], start=1):
        known = {
            heading: [row[k] for row in reader.rows[f"nodes-{number}"][1:]]
            for k, heading in enumerate(reader.rows[f"nodes-{number}"][0])
        }
        assert known["short axis, mm"] == [f"{one['short_axis_mm']:.1f}" for one in case["each_node"]]
        assert known["volume, ml"] == [f"{one['volume_mm3'] / 1000:.2f}" for one in case["each_node"]]
        assert known["highest CT"] == [f"{one['max_CT']:.4g}" for one in case["each_node"]]
        assert [one["number"] for one in reader.data[f"data-{number}"]["nodes"]] == [1, 2]
        assert reader.data[f"data-{number}"]["windows"] == ["soft tissue", "lung"]


def test_the_numbers_in_the_viewer_are_those_of_the_table(measured: Path) -> None:
    """The larger node is number 1 in the table, and so on the slices."""
    data = Reader((measured / "report.html").read_text(encoding="utf-8")).data["data-1"]
    table_ = json.loads((measured / "nodes.json").read_text())["cases"][0]["each_node"]
    for told, shown in zip(table_, data["nodes"], strict=True):
        axial = data["planes"][0]["slices"][shown["slices"][0]]
        assert abs(axial["at"] - 1 - told["centroid_z_voxel"]) <= told["voxels"]
        path = next(path for number, path in axial["outlines"] if number == told["node"])
        x, y = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path), float).mean(axis=0)
        assert (x, y) == pytest.approx((told["centroid_x_voxel"] + 0.5, told["centroid_y_voxel"] + 0.5), abs=1)


def test_a_case_has_the_row_of_its_patient(measured: Path, command: Command) -> None:
    sources = json.loads((measured / "sources.json").read_text())
    sources["cases"]["plain"]["patient"] = "p7"
    (measured / "sources.json").write_text(json.dumps(sources))
    (measured / "patients.csv").write_text("patient,probability_calibrated,low,high,class,flags\np7,0.25,0.2,0.3,0,\n")
    assert command("report", measured, "--quiet")[0] == 0
    reader = Reader((measured / "report.html").read_text(encoding="utf-8"))
    assert reader.rows["patients"][1][-5:] == ["\u2013"] * 5
    assert reader.rows["patients"][2][-5:] == ["0.25", "0.20", "0.30", "negative", "\u2013"]


def test_names_and_paths_may_be_hidden(measured: Path, command: Command) -> None:
    assert command("report", measured, "--anonymous", "--paper", "--quiet")[0] == 0
    text = (measured / "report.html").read_text(encoding="utf-8")
    assert [row[0] for row in Reader(text).rows["patients"][1:]] == ["case 1", "case 2"]
    assert "plain" not in text
    assert str(measured.parent) not in text
    assert measured.name not in re.sub(r"outline", "", text.split("<style>")[0])
    for path in (measured / "report.json", *(measured / "paper/tables").iterdir()):
        assert not re.search(rf"plain|onerror|{re.escape(str(measured.parent))}", path.read_text(encoding="utf-8")), path
        assert "case 1" in path.read_text(encoding="utf-8")


def test_a_scan_that_has_gone_leaves_a_sentence(measured: Path, command: Command) -> None:
    (measured.parent / "scans/plain_0000.nii.gz").unlink()
    assert command("report", measured, "--quiet")[0] == 0
    text = (measured / "report.html").read_text(encoding="utf-8")
    assert "plain_0000.nii.gz is no longer there" in text
    reader = Reader(text)
    assert list(reader.data) == ["data-1"]
    assert len(reader.rows["nodes-2"]) == 3


def test_a_page_that_cannot_be_written_is_told_beside_what_else_went_wrong(
    measured: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    sitk.WriteImage(sitk.Image(5, 5, 5, sitk.sitkUInt8), str(measured.parent / "masks/alone.nii.gz"))  # without a scan
    monkeypatch.setattr("lnauto.workflow.page_files.write_text", full)
    flags = ("--channels", "CT", "--kind", "labels", "--quiet", "--overwrite")
    images = ("--images", measured.parent / "scans")
    code, _, complaint = command("measure", "-i", measured.parent / "masks", *images, "-o", measured, *flags)
    assert code == 3
    assert "there is no scan of this case" in complaint
    assert "the page cannot be written (No space left on device)" in complaint
    assert len(json.loads((measured / "nodes.json").read_text())["cases"]) == 2


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, command: Command) -> None:
    code, _, complaint = command("report", tmp_path / "nowhere")
    assert code == 2
    assert "there is no such folder" in complaint


@pytest.mark.parametrize(("text", "line"), [("{}", "it does not say cases"), ("[]", "it is [], not"), ("{", "nodes.json")])
def test_a_table_that_is_none_is_told_in_a_line(text: str, line: str, measured: Path, command: Command) -> None:
    (measured / "nodes.json").write_text(text)
    code, _, complaint = command("report", measured)
    assert code == 2
    assert line in complaint
    assert "make it again with lnauto_predict or lnauto_measure" in complaint


def test_a_folder_of_something_else_is_refused(tmp_path: Path, command: Command) -> None:
    code, _, complaint = command("report", tmp_path)
    assert code == 2
    assert "there is no nodes.json, so that this is no folder of predicted or measured masks" in complaint


def test_no_page_where_none_is_wished_for(measured: Path, command: Command) -> None:
    (measured / "report.html").unlink()
    flags = ("--channels", "CT", "--kind", "labels", "--quiet", "--overwrite", "--no-report")
    images = ("--images", measured.parent / "scans")
    assert command("measure", "-i", measured.parent / "masks", *images, "-o", measured, *flags)[0] == 0
    assert not (measured / "report.html").exists()


def test_a_prediction_ends_with_a_page(
    random_model: Path, prepared: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnauto.inference.predictor.smallest_node_mm3", lambda _: 2000.0)  # of thousands of specks
    scan_ = prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz"
    how = ("--device", "cpu", "--engine", "torch", "--precision", "fp32", "--tta", "none")
    flags = ("-i", scan_, "-m", random_model, *how, "--quiet")
    code, _, complaint = command("predict", *flags, "-o", tmp_path / "out", "--save-probabilities")
    assert code == 0, complaint
    reader = Reader((tmp_path / "out/report.html").read_text(encoding="utf-8"))
    nodes = json.loads((tmp_path / "out/nodes.json").read_text())["cases"][0]["each_node"]
    assert reader.rows["patients"][1][:2] == ["ball_06", str(len(nodes))]
    assert any("shade" in one for one in reader.data["data-1"]["planes"][0]["slices"])
    assert command("predict", *flags, "-o", tmp_path / "none", "--no-report")[0] == 0
    assert not (tmp_path / "none/report.html").exists()


# ---- from Python


@pytest.fixture
def predicted() -> Prediction:
    _, instances = scan()
    mask = sitk.GetImageFromArray((instances > 0).astype(np.uint8)[::-1].copy())
    mask.SetDirection((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0))  # feet first
    return Prediction.of(mask, None, LabelScheme.of({"background": 0, "node": 1}, [1]), NASTY)


def test_a_prediction_is_shown_upright_in_a_frame_of_its_own(predicted: Prediction, tmp_path: Path) -> None:
    image, _ = scan()
    shown = lnauto.show(predicted, image[::-1], channels=["T2"])
    reader = Reader(shown.html)
    assert reader.rows["patients"][1][:2] == [NASTY, "2"]
    coronal = reader.data["data-1"]["planes"][1]["slices"][0]
    upper, lower = (pictured(coronal["pictures"][0])[at].astype(float).mean() for at in (0, -1))
    assert upper > lower + 50  # the image counts towards the head
    frame = Reader(shown._repr_html_()).tags
    assert [tag for tag, _ in frame] == ["iframe"]
    assert frame[0][1]["sandbox"] == "allow-scripts"
    assert frame[0][1]["srcdoc"] == shown.html
    assert shown.save(tmp_path / "look.html").read_text(encoding="utf-8") == shown.html


def test_how_likely_a_node_is_one_is_not_taken_for_how_likely_it_is_a_metastasis(predicted: Prediction) -> None:
    image, _ = scan()
    likely = sitk.GetImageFromArray(np.ones(predicted.instances.shape, np.float32))
    likely.CopyInformation(predicted.mask)
    told = Prediction.of(predicted.mask, likely, LabelScheme.of({"background": 0, "node": 1}, [1]), "scan")
    assert told.nodes[0].probability == 1
    shown = lnauto.show(told, image[::-1], channels=["T2"])
    assert "probability" not in Reader(shown.html).rows["nodes-1"][0]
    assert "metastasis" not in shown.html
    assert "shade" in Reader(shown.html).data["data-1"]["planes"][0]["slices"][0]


def test_what_does_not_belong_to_the_prediction_is_not_shown(predicted: Prediction) -> None:
    image, _ = scan()
    with pytest.raises(InputError, match="give the scan that was predicted"):
        lnauto.show(predicted, image[1:])
    with pytest.raises(InputError, match="there are 2 images and 1 channels"):
        lnauto.show(predicted, [image, image])
