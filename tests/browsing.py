"""A headless browser that looks at the page of a real `opticaldr serve`."""

from __future__ import annotations

import base64
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 20.0
ARGUMENTS = ("--use-fake-device-for-media-stream", "--disable-gpu")
"""A camera that shows a clock; no emulated graphics card, which is slower than none."""


@contextmanager
def chromium() -> Iterator[Any]:
    """The installed browser; skips where there is none. Playwright's own is never downloaded."""
    reason = "no browser: set CHROMIUM to one, or apt-get install chromium (make browser)"
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(reason)
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """An open page and what it did. errors: of the console; asked: method and path."""

    page: Any
    url: str
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def agree(self) -> None:
        """Ticks the box and waits for the first capture."""
        self.page.get_by_label("I have read this").check()
        self.updates(1)

    def set(self, name: str, value: float) -> None:
        """Moves a slider and waits until the capture is that of its new place."""
        self.page.evaluate(
            """([id, value]) => {
                const slider = document.getElementById(id);
                slider.value = value;
                slider.dispatchEvent(new Event("input"));
            }""",
            [name, value],
        )
        self.captured_at(name, self.page.locator(f"#{name}-out").inner_text())

    def captured_at(self, name: str, words: str) -> None:
        """Waits for the capture with this setting, such as "distance", "0.20 m"."""
        before = {"distance": ": ", "noise": "noise ", "strength": "strength "}[name]
        words = before + words.replace(" ", "\N{NO-BREAK SPACE}") + ","
        self.page.locator(f"#capture[aria-label*='{words}']").wait_for()

    def updates(self, count: int) -> None:
        """Waits for so many captures of the source that is shown."""
        self.until(
            lambda: int(self.page.locator("#capture").get_attribute("data-updates") or 0) >= count
        )

    def until(self, reached: Callable[[], bool]) -> None:
        """Waits for what no locator can say."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(20)

    def pixels(self, canvas: str) -> np.ndarray:
        """(h, w, 3) content of a canvas in [0, 255]."""
        address = self.page.locator(canvas).evaluate("canvas => canvas.toDataURL()")
        image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        return np.asarray(image.convert("RGB"), dtype=np.float64)

    def health(self) -> dict[str, Any]:
        return httpx2.get(self.url + "/api/health", timeout=30).json()


@contextmanager
def visit(browser: Any, url: str, *, expected: str = "", **options: Any) -> Iterator[Visit]:
    """A new visitor; afterwards the console must be clean and no other host asked for anything.

    expected: console errors with this text are allowed, where the test provokes them.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(1000 * PATIENCE_S)
    seen = Visit(context.new_page(), url)

    def on_request(request: Any) -> None:
        if request.url.startswith(url):
            seen.asked.append(f"{request.method} {request.url.removeprefix(url).partition('?')[0]}")
        elif not request.url.startswith(("blob:", "data:")):
            seen.foreign.append(request.url)

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning") and not (expected and expected in message.text):
            seen.errors.append(message.text)

    seen.page.on("request", on_request)
    seen.page.on("console", on_console)
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.goto(url)
    seen.page.locator("#consent:enabled").wait_for()
    try:
        yield seen
    finally:
        context.close()
    assert seen.errors == []
    assert seen.foreign == []


def detail(image: np.ndarray) -> float:
    """Mean squared difference of neighbours: what blur takes away and noise brings."""
    return float((np.diff(image, axis=0) ** 2).mean() + (np.diff(image, axis=1) ** 2).mean())


LOW_CONTRAST = """() => {
  // WCAG 2.2: contrast of every visible text against the nearest opaque background
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const numbers = (css) => css.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.matches(":disabled")) continue;
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(numbers(colour)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) low.push([element.textContent.slice(0, 40), ratio]);
  }
  return low;
}"""
