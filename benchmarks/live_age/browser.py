"""The web page in a headless Chromium, which measures the age of what it draws on its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from streamseg.web import WebDisplay


def watched_page(opened: ExitStack) -> tuple[WebDisplay, Callable[[], dict[str, Any]]]:
    """The display with a browser that looks at it, and what the browser measured, nanoseconds.

    Raises SystemExit without Chromium.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium here; install the package chromium")
    display = WebDisplay(port=0)
    opened.callback(display.close)
    playwright = opened.enter_context(sync_playwright())
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    opened.callback(browser.close)
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(display.url)

    def measured() -> dict[str, Any]:
        ages = page.evaluate("window.streamseg.ages")
        return {"page": [round(age * 1e6) for age in ages]}

    return display, measured
