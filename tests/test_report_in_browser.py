"""The page in a real browser: no error, no request, and what its reader does with it. Skipped where there is no Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from browsers import NEEDS_CHROMIUM, chromium

NASTY = "<img src=x onerror=\"document.title='taken over'\">"

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two measured masks, one of a case whose name is HTML that would act."""
    from lnauto.workflow.measure import Request, measure

    root = tmp_path_factory.mktemp("browsed")
    instances = np.zeros((20, 30, 40), np.uint8)
    instances[10:17, 20:26, 30:37] = 1
    instances[4:7, 5:9, 6:10] = 1
    image = np.broadcast_to(np.arange(20)[:, None, None] * 10, instances.shape).astype(np.int16)
    for part in ("masks", "scans"):
        (root / part).mkdir()
    for name, mask in (("plain", instances), (NASTY, instances * (np.arange(20) < 8)[:, None, None])):
        sitk.WriteImage(sitk.GetImageFromArray(mask), str(root / f"masks/{name}.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(image), str(root / f"scans/{name}_0000.nii.gz"))
    measure(root / "masks", root / "scans", root / "out", Request(kind="labels", channels=["CT"], quiet=True))
    return root / "out"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"), "disable-gpu")


@pytest.fixture
def opened(browser: Any, folder: Path) -> Any:
    browser.get((folder / "report.html").as_uri())
    return browser


def found(browser: Any, css: str) -> Any:
    return browser.find_element("css selector", css)


def texts(browser: Any, css: str) -> list[str]:
    return [element.text for element in browser.find_elements("css selector", css)]


def test_the_console_is_quiet_and_nothing_leaves_the_page(browser: Any, folder: Path) -> None:
    browser.get_log("performance")
    address = (folder / "report.html").as_uri()
    browser.get(address)
    found(browser, "#case-2 summary").click()
    requests = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert address in requests
    assert [url for url in requests if url != address and not url.startswith("data:")] == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_a_name_that_is_html_is_text(opened: Any) -> None:
    assert opened.title == "out"
    assert NASTY in texts(opened, "#patients td")
    assert NASTY in texts(opened, "#cases h3")


def test_rows_are_sorted_and_searched(opened: Any) -> None:
    def cases() -> list[str]:
        return [text for text in texts(opened, "#patients tbody td:first-child") if text]

    button = found(opened, "#patients th:nth-child(2) button")  # nodes
    button.click()
    assert cases() == [NASTY, "plain"]
    button.click()
    assert cases() == ["plain", NASTY]
    assert found(opened, "#patients th:nth-child(2)").get_attribute("aria-sort") == "descending"
    found(opened, "input[type=search]").send_keys("PLA")
    assert cases() == ["plain"]


@pytest.fixture
def plain(opened: Any) -> Any:
    """The case of two nodes, opened from the table."""
    opened.find_element("link text", "plain").click()
    case = next(element for element in opened.find_elements("css selector", "details.case") if "plain" in element.text)
    assert case.get_attribute("open") is not None
    return case


def axial(case: Any) -> tuple[str, str, int]:
    """What an axial slice's caption says, its picture, and how many outlines lie on it."""
    plane = found(case, "[data-plane=axial]")
    image = found(plane, ".view img").get_attribute("src")
    return found(plane, ".at").text, image, len(plane.find_elements("css selector", "path"))


def test_a_slice_is_scrolled_by_key_and_by_wheel(plain: Any, opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    before = axial(plain)
    found(plain, "[data-plane=axial] input").send_keys(Keys.ARROW_RIGHT)
    after = axial(plain)
    number = int(before[0].split()[1])
    assert after[0].split()[1] == str(number + 1)
    assert after[1] != before[1]
    ActionChains(opened).scroll_from_origin(
        ScrollOrigin.from_element(found(plain, "[data-plane=axial] .view")), 0, -100
    ).perform()
    assert axial(plain) == before


def test_the_reader_jumps_to_a_node(plain: Any) -> None:
    assert "node 1" in axial(plain)[0]  # the largest, to begin with
    found(plain, "button[data-node='2']").click()
    assert axial(plain)[0].startswith("axial 5 of 20, node 2")
    assert [row.text.split()[0] for row in plain.find_elements("css selector", "tr.chosen")] == ["2"]
    assert len(plain.find_elements("css selector", "[data-plane=axial] path.chosen")) == 1


def test_outlines_are_switched_off_and_on(plain: Any) -> None:
    button = next(element for element in plain.find_elements("css selector", "button.tool") if element.text == "Outline")
    assert axial(plain)[2] == 1
    button.click()
    assert (axial(plain)[2], button.get_attribute("aria-pressed")) == (0, "false")
    button.click()
    assert axial(plain)[2] == 1


def test_another_window_shows_another_picture(plain: Any) -> None:
    from selenium.webdriver.support.select import Select

    before = axial(plain)
    Select(found(plain, "select")).select_by_visible_text("lung")
    after = axial(plain)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_at_the_side(width: int, opened: Any) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_is_dark_and_light_is_light(opened: Any) -> None:
    def brightness(scheme: str) -> float:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        colour = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 3

    assert brightness("light") > 200
    assert brightness("dark") < 60
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_on_paper_every_case_is_there_and_no_button(opened: Any) -> None:
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    try:
        assert all(table.is_displayed() for table in opened.find_elements("css selector", "table[id^=nodes]"))
        assert not any(button.is_displayed() for button in opened.find_elements("css selector", ".tool"))
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
