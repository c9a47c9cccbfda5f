"""The page of many patients: how long it takes to write, how large it is, and when a browser shows it.

    python tests/benchmarks/report_page.py FOLDER --scan ../shared/data/chest_ct

Each of the cases is the scan, moved, with balls for nodes; the page is that of `lnauto_measure`'s folder. What a browser needs
until it paints is measured in headless Chromium, where there is one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import SimpleITK as sitk
from watching import Watch
from weak_strokes import machine

from lnauto.files import write_json
from lnauto.workflow.measure import Request, measure
from lnauto.workflow.report import PAGE, report

OPENED = 5  # times, of which the median counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="scans, masks, page and figures")
    parser.add_argument("--scan", type=Path, required=True, help="a CT scan, or a folder with one")
    parser.add_argument("--cases", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--nodes", type=int, default=5, help="balls in each case")
    parser.add_argument("--json", type=Path, help="where the figures go (default: figures.json in the folder)")
    options = parser.parse_args()
    scan = options.scan if options.scan.is_file() else next(options.scan.glob("*.nii.gz"))
    rows = [
        of_cases(options.folder.resolve() / f"{cases} cases of {options.nodes}", scan, cases, options.nodes)
        for cases in options.cases
    ]
    figures = {"machine": machine(), "command": " ".join(sys.argv), "rows": rows}
    write_json(options.json or options.folder / "figures.json", figures)
    print(json.dumps(figures["machine"]))
    print(f"{'cases':>6} {'seconds a case':>15} {'peak GB':>8} {'MB':>7} {'first paint, s':>15} {'a case opened, s':>17}")
    for row in rows:
        painted = [f"{row[key]:.2f}" if row[key] is not None else "-" for key in ("painted", "opened")]
        print(
            f"{row['cases']:6} {row['seconds_a_case']:15.2f} {row['gb']:8.2f} {row['mb']:7.1f} {painted[0]:>15} {painted[1]:>17}"
        )
    return 0


def of_cases(folder: Path, scan: Path, cases: int, nodes: int) -> dict[str, Any]:
    draw(folder, scan, cases, nodes)
    how = Request(kind="labels", channels=["CT"], overwrite=True, report=False, quiet=True)
    measure(folder / "masks", folder / "scans", folder / "out", how)
    watch, started = Watch(psutil.Process().pid), time.perf_counter()
    report(folder / "out", quiet=True)
    seconds = time.perf_counter() - started
    watch.ended.set()
    page = folder / "out" / PAGE
    painted, opened = in_browser(page)
    size = page.stat().st_size / 1e6
    return {
        "cases": cases,
        "seconds_a_case": seconds / cases,
        "gb": watch.peak / 2**30,
        "mb": size,
        "painted": painted,
        "opened": opened,
    }


def draw(folder: Path, scan: Path, cases: int, nodes: int) -> None:
    image = sitk.ReadImage(str(scan))
    voxels, random = sitk.GetArrayFromImage(image), np.random.default_rng(0)
    for name in ("masks", "scans"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(cases):
        path = folder / f"masks/case_{number:03d}.nii.gz"
        if path.is_file():
            continue
        moved = np.roll(voxels, random.integers(-20, 20, 3), axis=(0, 1, 2))
        mask = np.zeros(moved.shape, np.uint8)
        for _ in range(nodes):
            middle = [random.integers(side // 4, 3 * side // 4) for side in mask.shape]
            z, y, x = np.ogrid[tuple(slice(-at, side - at) for at, side in zip(middle, mask.shape, strict=True))]
            mask[(z * 1.6) ** 2 + y**2 + x**2 < random.integers(4, 12) ** 2] = 1
        for array, target in ((moved, folder / f"scans/case_{number:03d}_0000.nii.gz"), (mask, path)):
            written = sitk.GetImageFromArray(array)
            written.CopyInformation(image)
            sitk.WriteImage(written, str(target), True)


def in_browser(page: Path) -> tuple[float | None, float | None]:
    """Seconds from the start of loading to the first contentful paint, and from a click until another case's slices are there."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        return None, None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    painted, opened = [], []
    for _ in range(OPENED):
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-dev-shm-usage"):
            options.add_argument(f"--{flag}")
        browser = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
        browser.get(page.as_uri())
        first = browser.execute_async_script(
            "const done = arguments[0]; new PerformanceObserver((list) => { for (const e of list.getEntries())"
            " if (e.name === 'first-contentful-paint') done(e.startTime); }).observe({type: 'paint', buffered: true});"
        )
        painted.append(first / 1000)
        took = browser.execute_script(
            "const all = document.querySelectorAll('details.case'), last = all[all.length - 1]; const start = performance.now();"
            " last.open = true; last.dispatchEvent(new Event('toggle')); return performance.now() - start;"
        )
        opened.append(took / 1000)
        browser.quit()
    return float(np.median(painted)), float(np.median(opened))


if __name__ == "__main__":
    sys.exit(main())
