"""A real browser for tests, where there is one: `apt-get install chromium chromium-driver` under Debian, as `.ci/run` does."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="there is no chromium or no chromedriver: apt-get install chromium chromium-driver"
)
IN_SOFTWARE = (
    "use-gl=angle",
    "use-angle=swiftshader",
    "enable-unsafe-swiftshader",
    "ignore-gpu-blocklist",
)  # WebGL without a GPU


def chromium(profile: Path, *flags: str) -> Generator[Any]:
    """The driver of a headless one that keeps to itself, until whoever asked has done with it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    quiet = ("quic", "background-networking", "component-update", "sync", "dev-shm-usage")
    for flag in ("headless", "no-sandbox", "no-first-run", *(f"disable-{part}" for part in quiet), *flags):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--window-size=1280,1600")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()
