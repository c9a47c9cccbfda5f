"""A case's slices for the page: which are shown, what is on them, and how they lie."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from pages import ALL, GREY, pictured, scan
from PIL import Image

from lnauto.report import slices
from lnauto.report.slices import Detail, Layer, Window, draw_case, thumbnail, windows_for


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
    assert windows_for("PET_SUV", image) == windows_for("PET", image)
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
