"""report.html: what it says, what is drawn, and that nothing in it acts but its own script."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

import lnauto
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme
from lnauto.inference.prediction import Prediction
from lnauto.report import slices
from lnauto.report.page import Column, Html, Section, embedded, page, table
from lnauto.report.prediction_page import CasePart, Story, prediction_page
from lnauto.report.slices import Detail, Layer, Window, draw_case, thumbnail, windows_for

Command = Callable[..., tuple[int, str, str]]

NASTY = "<img src=x onerror=alert(1)>"
GREY = Window("whole range", 0, 100)
ALL = Detail(40, 40, 320, "webp")


class Reader(HTMLParser):
    """Tags with their attributes, the cells of tables, and what is written in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.data: dict[str, Any] = {}
        self._table, self._script, self._cell = "", "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self._table = attributes.get("id") or ""
            self.rows[self._table] = []
        elif tag == "tr" and self._table:
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self._cell = True
            self.rows[self._table][-1].append("")
        elif tag == "script" and attributes.get("type") == "application/json":
            self._script = attributes["id"] or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        elif tag == "script":
            self._script = ""

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[self._table][-1][-1] += data
        elif self._script:
            self.data[self._script] = json.loads(data)


def scan() -> tuple[np.ndarray, np.ndarray]:
    """Two nodes, one of three slices and one of seven, in an image that counts its voxels' z."""
    instances = np.zeros((20, 30, 40), np.int32)
    instances[4:7, 5:9, 6:10] = 1
    instances[10:17, 20:26, 30:37] = 2
    image = np.broadcast_to(np.arange(20.0)[:, None, None] * 5, instances.shape).copy()
    return image, instances


def pictured(coded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))))


# ---- pieces of a page


def test_text_stays_text_wherever_it_stands() -> None:
    columns = [Column(NASTY, how=f'"{NASTY}'), Column("n", ".1f")]
    body = table(columns, [[NASTY, 1.0], [Html("<b>meant</b>", NASTY), None]], NASTY, filtered=True, caption=NASTY)
    text = page(NASTY, "", [Section(NASTY, NASTY, body + embedded(NASTY, [f"</script>{NASTY}"]))])
    reader = Reader(text)
    assert not [attributes for tag, attributes in reader.tags if tag == "img" or "onerror" in attributes]
    assert reader.data[NASTY] == [f"</script>{NASTY}"]
    assert [tag for tag, _ in reader.tags].count("b") == 1


def test_the_browser_is_told_to_load_nothing() -> None:
    reader = Reader(page("title", "", []))
    policy = next(attributes["content"] for tag, attributes in reader.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:|\*", policy)


def test_cells_hold_numbers_as_they_are_to_be_read_and_as_they_sort() -> None:
    text = table([Column("name"), Column("size", ".1f")], [["a", 12.345], ["b", None], ["c", float("nan")]], "t")
    assert Reader(text).rows["t"] == [["name", "size"], ["a", "12.3"], ["b", "\u2013"], ["c", "\u2013"]]
    assert 'data-key="12.345"' in text


# ---- slices


def test_every_node_has_its_own_slice_along_each_axis() -> None:
    image, instances = scan()
    drawn = draw_case([Layer(image, GREY)], instances, (2.0, 1.0, 1.0), Detail(3, 2, 320, "jpeg"))
    assert [node["number"] for node in drawn["nodes"]] == [1, 2]
    assert [plane["name"] for plane in drawn["planes"]] == ["axial", "coronal", "sagittal"]
    for node in drawn["nodes"]:
        for plane, place in zip(drawn["planes"], node["slices"], strict=True):
            assert node["number"] in [number for number, _ in plane["slices"][place]["outlines"]]
    axial = drawn["planes"][0]
    assert len(axial["slices"]) == 3
    assert [axial["slices"][node["slices"][0]]["at"] for node in drawn["nodes"]] == [5, 11]  # counted from 1
    assert [plane["aspect"] for plane in drawn["planes"]] == pytest.approx([40 / 30, 40 / 40, 30 / 40], abs=1e-3)


def test_a_slice_shows_its_voxels_in_the_window_with_the_head_on_top() -> None:
    image, instances = scan()
    drawn = draw_case([Layer(image, GREY), Layer(image, Window("half", 0, 50))], instances, (1.0, 1.0, 1.0), ALL)
    axial, coronal, _ = drawn["planes"]
    assert drawn["windows"] == ["whole range", "half"]
    assert [one["at"] for one in axial["slices"]] == list(range(1, 21))
    for at in (3, 9):
        grey, half = (pictured(coded).mean() for coded in axial["slices"][at]["pictures"])
        assert grey == pytest.approx(at * 5 * 2.55, abs=3)
        assert half == pytest.approx(at * 5 * 5.1, abs=3)
    shown = pictured(coronal["slices"][0]["pictures"][0])[..., 0].astype(float)
    assert shown[0].mean() > shown[-1].mean() + 100  # z counts towards the head


def test_an_outline_goes_round_its_node() -> None:
    image, instances = scan()
    drawn = draw_case([Layer(image, GREY)], instances, (1.0, 1.0, 1.0), ALL)
    axial, coronal, _ = drawn["planes"]

    def extent(plane: dict[str, Any], node: int) -> list[float]:
        slice_ = plane["slices"][drawn["nodes"][node]["slices"][drawn["planes"].index(plane)]]
        path = next(path for number, path in slice_["outlines"] if number == node + 1)
        points = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path), float)
        return [*points.min(axis=0), *points.max(axis=0)]

    assert extent(axial, 0) == pytest.approx([6, 5, 10, 9], abs=0.3)  # x and y, voxel edges
    assert extent(coronal, 0) == pytest.approx([6, 20 - 7, 10, 20 - 4], abs=0.3)


def test_probabilities_are_laid_over_the_slices_where_there_are_any() -> None:
    image, instances = scan()
    likely = np.zeros(instances.shape, np.float32)
    likely[5] = 0.5
    likely[10] = 1
    slices_ = draw_case([Layer(image, GREY)], instances, (1.0, 1.0, 1.0), ALL, likely)["planes"][0]["slices"]
    assert [one["at"] for one in slices_ if "shade" in one] == [6, 11]
    half, whole = (pictured(slices_[at]["shade"]).mean(axis=(0, 1)) for at in (5, 10))
    assert half == pytest.approx([127, 0, 0], abs=4)
    assert whole == pytest.approx([255, 255, 0], abs=4)


def test_a_large_image_is_shown_smaller_and_a_small_one_as_it_is() -> None:
    image, instances = scan()
    small = pictured(
        draw_case([Layer(image, GREY)], instances, (1, 1, 1), Detail(2, 2, 320, "webp"))["planes"][0]["slices"][0]["pictures"][0]
    )
    assert small.shape[:2] == (30, 40)
    wide = np.repeat(np.repeat(image, 20, axis=1), 20, axis=2)
    large = draw_case([Layer(wide, GREY)], np.zeros(wide.shape, np.int32), (1, 0.05, 0.05), Detail(1, 1, 256, "webp"))["planes"][
        0
    ]
    assert pictured(large["slices"][0]["pictures"][0]).shape[:2] == (192, 256)


def test_fewer_and_smaller_slices_of_each_where_there_are_many_cases() -> None:
    one, ten, many = (Detail.for_cases(cases) for cases in (1, 10, 100))
    assert one.axial == slices.SLICES == 10 * ten.axial
    assert (many.axial, many.kind) == (10, "webp")
    assert one.longest > many.longest
    image, instances = scan()
    drawn = draw_case([Layer(image, GREY)], instances, (1.0, 1.0, 1.0), Detail(1, 1, 320, "jpeg"))
    assert drawn["kind"] == "jpeg"
    assert Image.open(io.BytesIO(base64.b64decode(drawn["planes"][0]["slices"][0]["pictures"][0]))).format == "JPEG"
    assert [len(plane["slices"]) for plane in drawn["planes"]] == [2, 2, 2]  # each node's own


def test_windows_are_those_of_the_modality() -> None:
    image, _ = scan()
    assert [window.name for window in windows_for("CT", image)] == ["soft tissue", "lung"]
    assert (windows_for("PET", image)[0].black, windows_for("PET", image)[0].white) == (10, 0)
    (window,) = windows_for("T2", image)
    assert 0 <= window.black < window.white <= 95


def test_the_thumbnail_shows_the_brightest_voxels_and_the_nodes() -> None:
    image, instances = scan()
    image[2, 3, 5] = 100
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(Layer(image, GREY), instances, (1.0, 1.0, 1.0)))), float)
    assert shown.shape == (20, 40, 3)
    assert shown[17, 5].mean() > 150
    assert shown[17, 20].mean() < 60
    cyan = (shown[..., 1] - shown[..., 0]) > 100
    assert cyan[20 - 7 : 20 - 3, 6:11].any()
    assert not cyan[:, 18:26].any()


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
    text = prediction_page(Story("out", {"model": "m"}, ["lnauto: three failed"]), parts)
    reader = Reader(text)
    assert reader.rows["patients"][1:] == [["one", "2", "1", "10.0", "19.96"], ["two", "0", "0", "\u2013", "0.00"]]
    heads, *rows = reader.rows["nodes-1"]
    assert heads[-2:] == ["mean CT", "highest CT"]
    assert rows[0] == ["1", "10.0", "19.9", "9.96", "10, 10, 10", "40.2", "80.0"]
    assert "its scan is gone" in text
    assert "lnauto: three failed" in text
    assert "nodes-2" not in reader.rows


def test_patients_have_their_probabilities() -> None:
    patient = {
        "probability": "0.9",
        "probability_calibrated": "0.731",
        "low": "0.6",
        "high": "0.8",
        "class": "1",
        "flags": "age missing",
    }
    reader = Reader(prediction_page(Story("out", {}), [CasePart("one", [], patient), CasePart("two", [])]))
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
        assert known["highest CT"] == [f"{one['max_CT']:.1f}" for one in case["each_node"]]
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
    assert command("report", measured, "--anonymous", "--quiet")[0] == 0
    text = (measured / "report.html").read_text(encoding="utf-8")
    assert [row[0] for row in Reader(text).rows["patients"][1:]] == ["case 1", "case 2"]
    assert "plain" not in text
    assert str(measured.parent) not in text
    assert measured.name not in re.sub(r"outline", "", text.split("<style>")[0])


def test_a_scan_that_has_gone_leaves_a_sentence(measured: Path, command: Command) -> None:
    (measured.parent / "scans/plain_0000.nii.gz").unlink()
    assert command("report", measured, "--quiet")[0] == 0
    text = (measured / "report.html").read_text(encoding="utf-8")
    assert "plain_0000.nii.gz is no longer there" in text
    reader = Reader(text)
    assert list(reader.data) == ["data-1"]
    assert len(reader.rows["nodes-2"]) == 3


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


def test_what_does_not_belong_to_the_prediction_is_not_shown(predicted: Prediction) -> None:
    image, _ = scan()
    with pytest.raises(InputError, match="give the scan that was predicted"):
        lnauto.show(predicted, image[1:])
    with pytest.raises(InputError, match="there are 2 images and 1 channels"):
        lnauto.show(predicted, [image, image])
