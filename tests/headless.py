"""A real browser for pages: Debian's chromium, headless, driven by selenium, without a network.

Tests are skipped with a message where chromium or its driver is missing; .ci/run installs both.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: pip install 'samevoice[dev]'")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
DESK, PHONE = (1280, 800), (390, 844)
Scheme = Literal["light", "dark"]
OVERLAPS = """
// What is off screen or folded is laid out only when it is looked at.
for (const box of document.querySelectorAll('.lazy')) box.style.contentVisibility = 'visible';
for (const box of document.querySelectorAll('details')) box.open = true;
const seen = [...document.querySelectorAll(
  'h1,h2,h3,p,dt,dd,li,caption,figcaption,summary,label,button,pre,svg,table')]
  .filter(x => x.getClientRects().length && !x.closest('[hidden]'))
  .filter(x => x.tagName === 'svg' || x.tagName === 'TABLE' || !x.closest('svg, table'))
  .filter(x => !x.classList.contains('skip'));
const found = [];
for (let i = 0; i < seen.length; i++) for (let j = i + 1; j < seen.length; j++) {
  if (seen[i].contains(seen[j]) || seen[j].contains(seen[i])) continue;
  const a = seen[i].closest('.scroll, .plot') || seen[i];
  const b = seen[j].closest('.scroll, .plot') || seen[j];
  if (a === b || a.contains(b) || b.contains(a)) continue;
  const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
  const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
  const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
  const said = [a, b].map(x => `${x.tagName} ${x.textContent.slice(0, 40)}`);
  if (wide > 1 && high > 1) found.push(said);
}
return found;
"""


def start(profile: Path) -> webdriver.Chrome:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver is named, so that selenium never looks for one on the network.
    return webdriver.Chrome(options=options, service=Service(driver))


def show(
    browser: webdriver.Chrome,
    page: str,
    size: tuple[int, int] = DESK,
    scheme: Scheme = "light",
) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    for kind in ("browser", "performance"):
        logged(browser, kind)  # what came before is forgotten
    browser.get(page)
    # On a full machine the driver has been seen to come back with half of a page.
    WebDriverWait(browser, 60).until(
        lambda it: script(it, "return document.readyState") == "complete"
    )


def logged(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


def script(browser: webdriver.Chrome, body: str, *given: Any) -> Any:
    return browser.execute_script(body, *given)


def one(browser: webdriver.Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def grave(browser: webdriver.Chrome, part: str | None = None) -> list[tuple[str, str, list[Any]]]:
    """What axe finds serious or critical in a page, or a part of it."""
    axe = pytest.importorskip("axe_selenium_python", reason="axe is not installed")
    checker = axe.Axe(browser)
    checker.inject()
    found = checker.run(part)
    assert "color-contrast" in {one["id"] for one in found["passes"]}
    return [
        (one["id"], one["impact"], [node["target"] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
