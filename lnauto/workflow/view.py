"""`lnauto_view`: whole scans with their masks in the browser, drawn by NiiVue where its package is installed."""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.errors import InputError
from lnauto.evaluation.masks import read_mask
from lnauto.files import replacing
from lnauto.report.slices import Window, usual_windows
from lnauto.report.view_server import Served, ViewServer
from lnauto.workflow.report import PROBABILITIES, nodes_in, read_tables

log = logging.getLogger(__name__)

NIFTI = (".nii.gz", ".nii")  # what the viewer is given as it lies; other files are written anew as NIfTI
VOLUME = "application/octet-stream"
PAGE = {
    "": ("view.html", "text/html; charset=utf-8"),
    "view.js": ("view.js", "text/javascript"),
    "view.css": ("view.css", "text/css"),
}


def view(folder: Path, port: int = 0, open_browser: bool = True) -> None:
    """Serve the viewer until Ctrl-C."""
    written = tempfile.TemporaryDirectory(prefix="lnauto_view_")
    with written, ViewServer(table_of(folder, Path(written.name)), port) as server:
        log.info("Look at %s (Ctrl-C ends it)", server.address)
        if open_browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.info("Ended.")


def table_of(folder: Path, written: Path) -> dict[str, Served]:
    """All that is served of a folder: the page, its program, what there is to see, and each volume.

    Args:
        written: an empty folder for volumes that have to be converted.
    """
    table = {
        address: Served((files("lnauto.report") / "assets" / name).read_bytes(), kind) for address, (name, kind) in PAGE.items()
    }
    table["niivue.js"] = Served(_niivue(), "text/javascript")
    nodes, sources = read_tables(folder)
    cases = []
    for number, row in enumerate(nodes["cases"]):
        known = sources["cases"].get(row["case"], {"mask": "", "images": []})
        case, volumes = _case(folder, row, known, sources["channels"], f"{number}/")
        cases.append(case)
        for address, path in volumes.items():
            content: Path | partial[Path] = path
            if address == case["mask"]:
                content = partial(_nodes_alone, path, sources, written / f"{number}.nii.gz")
            elif not path.name.lower().endswith(NIFTI):
                content = partial(_as_nifti, path, written / address.replace("/", "_"))
            table[address] = Served(content, VOLUME)
    run = {"title": folder.resolve().name, "cases": cases}
    table["run.json"] = Served(json.dumps(run).encode(), "application/json")
    return table


def _niivue() -> Path:
    """The program that draws; its package is found without importing it, which would bring a notebook's machinery along."""
    package = importlib.util.find_spec("ipyniivue")
    if package is None or package.submodule_search_locations is None:
        raise InputError.of("the viewer is not installed", "ipyniivue", "pip install 'lnauto[view]'")
    return Path(package.submodule_search_locations[0]) / "static" / "widget.js"


def _case(
    folder: Path, row: Mapping[str, Any], known: Mapping[str, Any], channels: Sequence[str], at: str
) -> tuple[dict[str, Any], dict[str, Path]]:
    """What the page is told of a case, and the files at its addresses."""
    paths = [Path(path) for path in known["images"]]
    mask, likely = folder / known["mask"], folder / PROBABILITIES / f"{row['case']}.nii.gz"
    case: dict[str, Any] = {"name": row["case"], "nodes": [_node(node) for node in row["each_node"]], "images": []}
    gone = next((path for path in (mask, *paths) if not path.is_file()), None)
    if gone is not None or not paths:
        case["missing"] = "There is no scan beside the mask." if gone is None else f"{gone} is no longer there."
        return case, {}
    case["mask"] = f"{at}mask.nii.gz"
    volumes = {case["mask"]: mask}
    for number, (channel, path) in enumerate(zip(channels, paths, strict=True)):
        address = f"{at}image_{number}{_ending(path)}"
        volumes[address] = path
        case["images"].append({"name": channel, "at": address, "windows": [_window(one) for one in usual_windows(channel)]})
    if likely.is_file():
        volumes[f"{at}probability.nii.gz"] = likely
        case["probability"] = f"{at}probability.nii.gz"
    return case, volumes


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": node["node"],
        "short_axis_mm": node["short_axis_mm"],
        "volume_ml": node["volume_mm3"] / 1000,
        "station": node.get("station"),
        "place": [node[f"centroid_{axis}_mm"] for axis in "xyz"],
    }


def _window(window: Window) -> dict[str, Any]:
    """An image without one is shown in the window that the viewer finds for it."""
    low, high = sorted((window.black, window.white))
    return {"name": window.name, "low": low, "high": high, "inverted": window.black > window.white}


def _ending(path: Path) -> str:
    return next((ending for ending in NIFTI if path.name.lower().endswith(ending)), NIFTI[0])


def _nodes_alone(path: Path, sources: Mapping[str, Any], written: Path) -> Path:
    """1 where a node is, whatever the mask's own values are."""
    import SimpleITK as sitk

    if not written.is_file():
        mask = read_mask(path)
        with replacing(written) as temporary:
            sitk.WriteImage(mask.image((nodes_in(mask, sources) > 0).astype(np.uint8)), str(temporary))
    return written


def _as_nifti(path: Path, written: Path) -> Path:
    import SimpleITK as sitk

    if written.is_file():
        return written
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError.of(f"{path.name} cannot be read", path, "check that it is a whole 3D image") from error
    with replacing(written) as temporary:
        sitk.WriteImage(image, str(temporary))
    return written
