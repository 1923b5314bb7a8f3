"""One browser for all tests of the page, and one server per module."""

import shutil

import pytest

from tests.web.feeding import Feed, serving


@pytest.fixture(scope="package")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested by playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here; install the package chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def display():
    with serving(record=True, title="a phantom") as shown:
        yield shown


@pytest.fixture
def feed(display):
    with Feed(display) as running:
        running.number = getattr(display, "_test_number", 0)
        yield running
    display._test_number = running.number
