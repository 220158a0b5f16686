"""Fixtures that several test files share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

CHROMIUM, DRIVER = "chromium", "chromedriver"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A headless Chromium of 1400 x 900 with a profile of its own; skipped where none is installed, but in CI."""
    chromium, driver = shutil.which(CHROMIUM), shutil.which(DRIVER)
    if not (chromium and driver):
        reason = f"{CHROMIUM} and {DRIVER} are not on PATH"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI this test must run")
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",  # containers give /dev/shm 64 MB, too little for a canvas of pictures
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1400,900",
        f"user-data-dir={tmp_path / 'chromium'}",
    ):
        options.add_argument(f"--{flag}")
    window = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()
