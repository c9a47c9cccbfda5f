"""The table of nodes: the same however a volume lies, with what the scan shows, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import json
import tracemalloc
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from building import write_image
from scipy import ndimage

from lnauto.data.raw import Case
from lnauto.nodes import component_pieces, label_components
from lnauto.workflow.head_predict import NodeReading
from lnauto.workflow.node_table import column_channels, measure_masks, write_nodes

NODES = {"labels": {"background": 0, "tumour": 1, "node": 2}, "channel_names": {"0": "CT", "1": "PET"}}


def blobs(seed: int, shape: tuple[int, int, int] = (24, 30, 36)) -> np.ndarray:
    """A handful of nodes (2) of no symmetry, each of its own volume, and a tumour (1)."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    mask = np.where(noise > np.quantile(noise, 0.9), 2, 0).astype(np.uint8)
    instances, count = label_components(mask)
    for number in range(6, count + 1):
        mask[instances == number] = 0
    mask[0, :2, :2] = 1
    return mask


def as_seen(array: np.ndarray, spacing: tuple[float, ...], order: tuple[int, ...], flips: tuple[bool, ...]) -> sitk.Image:
    """The same volume with its axes in another order and some of them running backwards, in the same place in the world."""
    turned = np.cos(0.2), np.sin(0.2)
    direction = np.array([[turned[0], -turned[1], 0], [turned[1], turned[0], 0], [0, 0, 1]])
    first = [array.shape[axis] - 1 if flipped else 0 for axis, flipped in zip(order, flips, strict=True)]
    corner = np.zeros(3)
    corner[list(order)] = first
    origin = np.array([-20.0, 35.0, 7.0]) + direction @ (corner * spacing)[::-1]
    seen = np.flip(array.transpose(order), [axis for axis in range(3) if flips[axis]])
    columns = [direction[:, 2 - axis] * (-1 if flipped else 1) for axis, flipped in zip(order, flips, strict=True)]
    image = sitk.GetImageFromArray(np.ascontiguousarray(seen))
    image.SetSpacing([float(spacing[axis]) for axis in order][::-1])
    image.SetOrigin(origin.tolist())
    image.SetDirection(np.stack(columns[::-1], axis=1).ravel().tolist())
    return image


ORIENTATIONS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (2.5, 0.9, 1.1)])
def test_all_48_orientations_give_one_table(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    masks = {}
    for number, (order, flips) in enumerate(ORIENTATIONS):
        masks[f"{number:02d}"] = tmp_path / f"{number:02d}.nrrd"
        sitk.WriteImage(as_seen(blobs(3), spacing, order, flips), str(masks[f"{number:02d}"]))
    table = measure_masks(masks, NODES)
    first, *others = (
        [(*node.centroid_mm, node.volume_mm3, node.long_axis_mm, node.short_axis_mm) for node in case.nodes]
        for case in table.cases
    )
    assert len(others) == 47
    assert len(first) == 5
    assert len({node.centroid_voxel for node in table if node.number == 1}) == 48  # they do lie differently in their files
    for other in others:
        assert np.allclose(first, other, atol=1e-4)


def scene(folder: Path) -> tuple[np.ndarray, list[np.ndarray], dict[str, Path], list[Case]]:
    """A mask and two channels on disk."""
    mask = blobs(1)
    rng = np.random.default_rng(0)
    channels = [rng.integers(-100, 200, mask.shape).astype(np.int16), rng.gamma(2.0, 2.0, mask.shape).astype(np.float32)]
    write_image(folder / "a.nii.gz", mask)
    files = tuple(folder / f"a_{number:04d}.nii.gz" for number in range(2))
    for file, channel in zip(files, channels, strict=True):
        write_image(file, channel)
    return mask, channels, {"a": folder / "a.nii.gz"}, [Case("a", files)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_a_channel_shows_is_that_of_the_nodes_own_voxels(tmp_path: Path) -> None:
    mask, channels, masks, cases = scene(tmp_path)
    write_nodes(measure_masks(masks, NODES, cases), {}, tmp_path / "nodes.csv")
    instances, count = label_components(mask == 2)
    rows = rows_of(tmp_path / "nodes.csv")
    assert len(rows) == count == 5
    for number, row in enumerate(rows, start=1):
        where = np.argwhere(instances == number)
        assert int(row["voxels"]) == len(where)
        assert [float(row[f"centroid_{axis}_voxel"]) for axis in "zyx"] == pytest.approx(where.mean(axis=0), abs=0.006)
        for name, channel in zip(("CT", "SUV"), channels, strict=True):
            inside = channel[instances == number].astype(float)
            expected = [inside.mean(), *np.percentile(inside, [5, 50, 95]), inside.max()]
            assert [float(row[f"{short}_{name}"]) for short in ("mean", "p5", "p50", "p95", "max")] == pytest.approx(
                expected, rel=1e-4
            )


def test_a_scan_that_changed_since_leaves_its_columns_empty(tmp_path: Path) -> None:
    mask, _, masks, cases = scene(tmp_path)
    write_image(cases[0].images[0], np.zeros([side - 5 for side in mask.shape], np.int16))
    write_nodes(measure_masks(masks, NODES, cases), {}, tmp_path / "nodes.csv")
    assert all(row["mean_CT"] == row["max_CT"] == "" and float(row["mean_SUV"]) > 0 for row in rows_of(tmp_path / "nodes.csv"))
    cases[0].images[1].unlink()
    write_nodes(measure_masks(masks, NODES, cases), {}, tmp_path / "nodes.csv")
    assert all(row["mean_SUV"] == "" and float(row["volume_mm3"]) > 0 for row in rows_of(tmp_path / "nodes.csv"))


def test_json_says_the_same_and_how_it_is_measured(tmp_path: Path) -> None:
    _, _, masks, cases = scene(tmp_path)
    write_image(tmp_path / "none.nii.gz", np.zeros((8, 8, 8), np.uint8))
    masks["none"], told = tmp_path / "none.nii.gz", {("a", 2): NodeReading(0.75, 0.5)}
    table = measure_masks(masks, NODES, [*cases, Case("none", cases[0].images)])
    write_nodes(table, told, tmp_path / "nodes.csv")
    rows, content = rows_of(tmp_path / "nodes.csv"), json.loads((tmp_path / "nodes.json").read_text())
    columns = list(content["measures"])
    assert list(rows[0]) == ["case", "node", *columns]
    assert content["measures"]["short_axis_mm"]["unit"] == "mm"
    assert all(measure["how"] for measure in content["measures"].values())
    case, without = content["cases"]
    assert (case["case"], case["nodes"], case["spacing_mm"], case["size_voxel"]) == ("a", 5, [1.5, 1.5, 2.0], [36, 30, 24])
    assert case["total_volume_mm3"] == pytest.approx(sum(float(row["volume_mm3"]) for row in rows))
    assert (without["case"], without["nodes"], without["each_node"]) == ("none", 0, [])
    for row, node in zip(rows, case["each_node"], strict=True):
        assert int(row["node"]) == node["node"]
        for column in columns:
            if row[column]:
                assert float(row[column]) == pytest.approx(node[column], abs=0.006, rel=1e-4)
            else:
                assert node[column] is None
    assert [row["probability"] for row in rows] == ["", "0.7500", "", "", ""]
    assert "station" not in columns


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@SUM(A1)"])
def test_no_cell_is_a_formula(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "m.nii.gz", blobs(1))
    write_nodes(measure_masks({name: tmp_path / "m.nii.gz"}, NODES), {}, tmp_path / "nodes.csv")
    rows = rows_of(tmp_path / "nodes.csv")
    assert {row["case"] for row in rows} == {f"'{name}"}
    assert any(float(row["centroid_x_mm"]) < 0 for row in rows)  # a negative number is no text and stays one
    assert json.loads((tmp_path / "nodes.json").read_text())["cases"][0]["case"] == name


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["CT"], ["CT"]),
        (["CT", "PET"], ["CT", "SUV"]),
        (["FDG-PET (SUVbw)"], ["SUV"]),
        (["T1 post", "carpet", "ptv"], ["T1_post", "carpet", "ptv"]),
        (["noNorm", "noNorm", "CT"], ["noNorm_0000", "noNorm_0001", "CT"]),
    ],
)
def test_channels_in_columns(names: list[str], columns: list[str]) -> None:
    assert column_channels(names) == columns


def test_pieces_are_the_components() -> None:
    mask = blobs(5) == 2
    instances, count = label_components(mask)
    pieces = component_pieces(mask)
    assert [piece.number for piece in pieces] == list(range(1, count + 1))
    painted = np.zeros_like(instances)
    for piece in pieces:
        painted[piece.box][piece.mask] = piece.number
    assert np.array_equal(painted, instances)


def test_a_large_volume_needs_little_more_memory_than_it_takes(tmp_path: Path) -> None:
    mask = np.zeros((64, 128, 128), np.uint8)
    for z, y, x in product((2, 58), range(4, 120, 24), range(4, 120, 24)):
        mask[z : z + 4, y : y + 5, x : x + 6] = 2
    write_image(tmp_path / "a.nii.gz", mask)
    write_image(tmp_path / "a_0000.nii.gz", mask.astype(np.float32))
    measure_masks({"a": tmp_path / "a.nii.gz"}, NODES)  # so that imports do not count
    tracemalloc.start()
    table = measure_masks(
        {"a": tmp_path / "a.nii.gz"}, {**NODES, "channel_names": {"0": "CT"}}, [Case("a", (tmp_path / "a_0000.nii.gz",))]
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == 50
    assert peak < 6.5 * mask.size  # bytes per voxel, beside what SimpleITK holds; an array of 32-bit numbers would add 4 or 8
