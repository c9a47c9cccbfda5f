"""The volume viewer in a real browser, which draws by WebGL. Skipped where there is no Chromium, or no ipyniivue."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from browsers import IN_SOFTWARE, NEEDS_CHROMIUM, chromium
from PIL import Image

from lnauto.report.view_server import ViewServer
from lnauto.workflow.view import table_of

pytestmark = NEEDS_CHROMIUM
NODE = (6, 214, 224)
FAR = 250  # of the sum of the differences of red, green and blue


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A grey block with a node high up on the left side of a patient, who is scanned obliquely to no axis but flipped."""
    pytest.importorskip("ipyniivue")
    from lnauto.workflow.measure import Request, measure

    root = tmp_path_factory.mktemp("viewed")
    mask = np.zeros((24, 32, 40), np.uint8)
    mask[18:23, 12:18, 28:36] = 1
    for part, array in (("masks/case.nii.gz", mask), ("scans/case_0000.nii.gz", 40 + 20 * mask.astype(np.int16))):
        (root / part).parent.mkdir()
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((2.0, 2.0, 3.0))
        image.SetOrigin((-40.0, 17.0, 100.0))
        sitk.WriteImage(image, str(root / part))
    for part, ending in (("masks", ""), ("scans", "_0000")):
        shutil.copy(root / part / f"case{ending}.nii.gz", root / part / f"spoilt{ending}.nii.gz")
    measure(root / "masks", root / "scans", root / "out", Request(kind="labels", channels=["CT"], quiet=True))
    (root / "masks/spoilt.nii.gz").write_bytes(b"no image")
    server = ViewServer(table_of(root / "out", tmp_path_factory.mktemp("written")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.address
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with closing(chromium(tmp_path_factory.mktemp("profile"), *IN_SOFTWARE)) as opened:
        driver = next(opened)
        driver.set_window_size(1200, 900)
        driver.get(address)
        waits_for(lambda: driver.find_element("css selector", "body").get_attribute("data-ready") == "yes")
        set_value(driver, "fill", "1")
        waits_for(lambda: pixels(driver, NODE) > 0)
        yield driver


def waits_for(happens: Any, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


def picture(browser: Any) -> np.ndarray:
    shot = browser.find_element("css selector", "#canvas canvas").screenshot_as_png
    return np.asarray(Image.open(BytesIO(shot)).convert("RGB"), dtype=int)


def pixels(browser: Any, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture(browser) - colour).sum(axis=2) < 60).sum())


def set_value(browser: Any, identifier: str, value: str) -> None:
    browser.execute_script(
        "const it = document.getElementById(arguments[0]); it.value = arguments[1];"
        " it.dispatchEvent(new Event('input')); it.dispatchEvent(new Event('change'));",
        identifier,
        value,
    )


def test_the_console_has_no_error(browser: Any) -> None:
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_nothing_is_asked_for_elsewhere(browser: Any, address: str) -> None:
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert {"niivue.js", "run.json", "image_0.nii.gz", "mask.nii.gz"} <= {name.rsplit("/", 1)[-1] for name in asked}
    assert all(name.startswith((address, "data:", "blob:")) for name in asked)


def test_a_click_on_a_node_goes_there(browser: Any) -> None:
    browser.find_element("css selector", "#nodes button").click()
    assert browser.find_element("css selector", "#nodes tr").get_attribute("class") == "chosen"
    # the mean of its voxels' middles: -40 + 2 * 31.5 and so on
    assert browser.find_element("css selector", "#at").text == "node 1: left 23.0, back 46.0, head 160.0 mm"
    set_value(
        browser, "layout", "0"
    )  # the axial slice through it: the patient's left is on the right, the middle at 46 of 17 to 79
    set_value(browser, "fill", "1")
    waits_for(lambda: pixels(browser, NODE) > 500)
    browser.save_screenshot("/tmp/w/vb.png")
    rows, columns = np.nonzero(np.abs(picture(browser) - NODE).sum(axis=2) < 60)
    shown = np.nonzero(picture(browser).sum(axis=2) > FAR)
    across = (columns.mean() - shown[1].min()) / (shown[1].max() - shown[1].min())
    down = (rows.mean() - shown[0].min()) / (shown[0].max() - shown[0].min())
    assert (across, down) == (pytest.approx(32 / 40, abs=0.04), pytest.approx(15 / 32, abs=0.04))


def test_nodes_can_be_hidden(browser: Any) -> None:
    set_value(browser, "fill", "1")
    waits_for(lambda: pixels(browser, NODE) > 0)
    browser.find_element("css selector", "#masked").click()
    waits_for(lambda: pixels(browser, NODE) == 0)
    browser.find_element("css selector", "#masked").click()
    waits_for(lambda: pixels(browser, NODE) > 0)


def test_the_window_changes_what_is_seen(browser: Any) -> None:
    set_value(browser, "layout", "0")
    before = np.median(picture(browser)[picture(browser).sum(axis=2) > 0])
    set_value(browser, "window", "1")  # lung: everything is brighter
    waits_for(lambda: np.median(picture(browser)[picture(browser).sum(axis=2) > 0]) > before + 50)


def test_a_file_that_cannot_be_read_is_told(browser: Any) -> None:
    assert browser.find_element("css selector", "#missing").text == ""
    set_value(browser, "case", "1")
    waits_for(lambda: browser.find_element("css selector", "#missing").text.startswith("A file of this case cannot be shown."))
