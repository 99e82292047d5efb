"""The page of a recording, in a real browser: heard, renamed, merged and saved."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless import DESK, OVERLAPS, PHONE, Scheme, grave, logged, one, script, show
from made_audio import RATE, recording, tone
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from samevoice.models.diarization import page
from samevoice.models.diarization.drawing import envelope
from samevoice.models.diarization.output import Turns

SPANS = [(0.5, 2.0, "ana"), (1.0, 1.0625, "ben"), (2.5, 4.0, "cy"), (4.0, 6.5, "ana")]
NARROW = (360, 740)
BAD = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
HOSTILE = [
    BAD,
    'a" onfocus="alert(3)',
    "two words",
    "two_words",
    "NA",
    "\u202eevil\x00\n\udcff",
    "-->",
]
LONG = "x" * 300


def written(
    folder: Path, turns: Turns, name: str = "talk.wav", *, embedded: bool = False
) -> tuple[str, Turns]:
    samples = tone(8.0)
    sound = recording(folder / name, samples)
    loudness = envelope([samples], 8.0, columns=page.COLUMNS)
    target = folder / "page.html"
    audio = page.inside(sound) if embedded else page.beside(sound, target)
    target.write_text(page.page(turns, loudness, 8.0, name, audio), encoding="utf-8")
    return target.as_uri(), turns


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Turns]]:
    """Name -> address of a page, and the turns that it shows."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = [(k / 2, k / 2 + 0.5, who) for k, who in enumerate([*HOSTILE, LONG])]
    many = [(8 * k / 3000, 8 * (k + 1) / 3000, f"S{k % 9}") for k in range(3000)]
    return {
        "plain": written(folder / "plain", Turns.of(SPANS, "talk")),
        "embedded": written(folder / "embedded", Turns.of(SPANS, "talk"), embedded=True),
        "hostile": written(folder / "hostile", Turns.of(hostile, BAD), "a:b #1?%.wav"),
        "nobody": written(folder / "nobody", Turns((), "talk")),
        "many": written(folder / "many", Turns.of(many, "talk")),
    }


@pytest.fixture
def saved(browser: Chrome, tmp_path: Path) -> Iterator[Any]:
    """Clicks Save and reads the file."""
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)

    def save(kind: str) -> str:
        for old in tmp_path.iterdir():
            old.unlink()
        one(browser, f"[data-save={kind}]").click()
        found = WebDriverWait(browser, 30).until(lambda _: list(tmp_path.glob(f"*.{kind}")))
        time.sleep(0.2)
        return found[0].read_bytes().decode()

    yield save
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "default"})


def rename(browser: Chrome, speaker: int, name: str) -> None:
    box = one(browser, f"#name{speaker}")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(name or Keys.DELETE, Keys.TAB)


def lanes(browser: Chrome) -> list[tuple[str, int]]:
    """What each lane is called, and how many turns it holds."""
    found: list[list[Any]] = script(
        browser,
        "return [...document.querySelectorAll('[role=group]')].map(x =>"
        " [document.getElementById(x.getAttribute('aria-labelledby')).textContent,"
        "  x.querySelectorAll('.turn').length])",
    )
    return [(name, turns) for name, turns in found]


def wait(browser: Chrome, condition: str) -> None:
    WebDriverWait(browser, 20).until(lambda it: script(it, f"return {condition}"))


def now(browser: Chrome) -> float:
    return float(script(browser, "return document.querySelector('audio').currentTime"))


PLAYING, PAUSED = (f"document.querySelector('audio').paused === {x}" for x in ("false", "true"))
READY = "document.querySelector('audio').readyState >= 1"

# Hearing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "embedded", "hostile"])
def test_a_click_on_a_turn_plays_from_there(
    browser: Chrome, pages: dict[str, tuple[str, Turns]], name: str
) -> None:
    show(browser, pages[name][0])
    wait(browser, READY)
    assert script(browser, "return document.querySelector('audio').duration") == 8
    turn = browser.find_elements(By.CSS_SELECTOR, ".turn")[1]
    start = float(script(browser, "return arguments[0].offsetLeft", turn))
    turn.click()
    wait(browser, PLAYING)
    wait(browser, "document.querySelector('audio').currentTime > 0")
    wide = script(browser, "return document.querySelector('.timeline').clientWidth")
    assert 8 * start / wide - 0.1 < now(browser) < 8 * start / wide + 3
    wait(browser, "document.querySelector('#now').textContent !== ''")
    said, titles, rows = script(
        browser,
        "const all = (x) => [...document.querySelectorAll(x)];"
        "return [document.querySelector('#now').textContent,"
        " all('.turn[aria-current]').map(x => x.title), all('tr[aria-current]').length]",
    )
    assert len(titles) == rows
    assert all(title.rpartition(", ")[0] in said for title in titles)
    assert titles or said == "Nobody speaks"


def test_a_click_on_the_waveform_plays_from_there(
    browser: Chrome, pages: dict[str, tuple[str, Turns]]
) -> None:
    show(browser, pages["plain"][0])
    wait(browser, READY)
    one(browser, ".wave").click()  # in its middle
    wait(browser, PLAYING)
    assert 3.9 < now(browser) < 6


def test_a_click_on_a_row_plays_its_turn(
    browser: Chrome, pages: dict[str, tuple[str, Turns]]
) -> None:
    show(browser, pages["plain"][0])
    wait(browser, READY)
    browser.find_elements(By.CSS_SELECTOR, "tbody tr")[3].click()
    wait(browser, PLAYING)
    assert 4 <= now(browser) < 6


def test_the_keyboard_is_enough(browser: Chrome, pages: dict[str, tuple[str, Turns]]) -> None:
    show(browser, pages["plain"][0])
    wait(browser, READY)

    def press(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    def focused() -> str:
        return str(browser.switch_to.active_element.get_attribute("aria-label"))

    press(Keys.ARROW_RIGHT)
    assert focused() == "ana, 0:00.5 to 0:02.0"
    assert now(browser) == 0.5
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert focused() == "cy, 0:02.5 to 0:04.0"
    press(Keys.ARROW_LEFT)
    assert focused() == "ben, 0:01.0 to 0:01.1"
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert focused() == "ana, 0:00.5 to 0:02.0"
    assert now(browser) == 0.5
    assert script(browser, f"return {PAUSED}")
    press(Keys.SPACE)
    wait(browser, PLAYING)
    wait(browser, "document.querySelector('audio').currentTime > 0.6")
    press(Keys.SPACE)
    wait(browser, PAUSED)
    assert now(browser) > 0.6
    press(Keys.ENTER)
    wait(browser, PLAYING)
    # One turn only is a stop of the tab key.
    assert len(browser.find_elements(By.CSS_SELECTOR, ".turn[tabindex='0']")) == 1
    # In a name, keys are letters.
    press(Keys.SPACE)
    wait(browser, PAUSED)
    one(browser, "#name0").send_keys(Keys.END, " k", Keys.ARROW_LEFT, "o")
    assert one(browser, "#name0").get_property("value") == "ana ok"
    assert script(browser, f"return {PAUSED}")


def test_a_recording_that_is_gone_is_named(browser: Chrome, tmp_path: Path) -> None:
    address, _ = written(tmp_path, Turns.of(SPANS, "talk"))
    (tmp_path / "talk.wav").unlink()
    show(browser, address)
    wait(browser, "!document.querySelector('#silent').hidden")
    assert "Is talk.wav still in its place" in one(browser, "[role=alert]").text


# Names --------------------------------------------------------------------------------------------


def test_speakers_are_renamed_merged_and_saved(
    browser: Chrome, pages: dict[str, tuple[str, Turns]], saved: Any
) -> None:
    address, turns = pages["plain"]
    show(browser, address)
    assert lanes(browser) == [
        ("ana 2 turns, 4.0 s", 2),
        ("ben 1 turn, 0.1 s", 1),
        ("cy 1 turn, 1.5 s", 1),
    ]
    assert saved("rttm") == turns.to_rttm()
    assert saved("srt") == turns.to_srt()
    rename(browser, 1, "Ben Ali")
    assert one(browser, "[role=status]").text == "ben is called Ben Ali now."
    rename(browser, 2, "ana")
    assert one(browser, "[role=status]").text == "cy and ana are one speaker now, called ana."
    assert lanes(browser) == [("ana 3 turns, 5.5 s", 3), ("Ben Ali 1 turn, 0.1 s", 1)]
    renamed = turns.renamed({"ben": "Ben Ali", "cy": "ana"})
    assert saved("rttm") == renamed.to_rttm()
    assert "1.000 0.062 <NA> <NA> Ben_Ali <NA>" in renamed.to_rttm()
    assert saved("srt") == renamed.to_srt()
    told = [row.text.split()[-1] for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr")]
    assert told == ["ana", "Ali", "ana", "ana"]
    rename(browser, 2, "")
    assert [turns for _, turns in lanes(browser)] == [2, 1, 1]
    assert one(browser, "#name2").get_property("value") == "cy"


def test_hostile_names_are_text_and_are_saved_as_the_command_does(
    browser: Chrome, pages: dict[str, tuple[str, Turns]], saved: Any
) -> None:
    address, turns = pages["hostile"]
    show(browser, address)
    assert (
        script(browser, "return document.querySelectorAll('img, iframe, main script').length") == 0
    )
    handlers = (
        "return [...document.querySelectorAll('*')].flatMap(x => x.getAttributeNames())"
        ".filter(name => name.startsWith('on'))"
    )
    assert script(browser, handlers) == []
    assert one(browser, "h1").text == BAD
    assert [name for name, _ in lanes(browser)].count("NA 1 turn, 0.5 s") == 1
    assert saved("rttm") == turns.to_rttm()
    assert saved("srt") == turns.to_srt()
    place = turns.labels().index("two words")
    rename(browser, place, "None")
    assert saved("rttm") == turns.renamed({"two words": "None"}).to_rttm()
    rename(browser, place, BAD)
    assert saved("srt") == turns.renamed({"two words": BAD}).to_srt()
    # What looks like a name that is there is that name.
    rename(browser, place, "evil")
    assert saved("rttm") == turns.renamed({"two words": HOSTILE[5]}).to_rttm()
    assert script(browser, handlers) == []


# Alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "embedded", "hostile", "nobody"])
def test_nothing_but_the_recording_is_requested_and_nothing_goes_wrong(
    browser: Chrome, pages: dict[str, tuple[str, Turns]], name: str
) -> None:
    address, _ = pages[name]
    show(browser, address)
    wait(browser, READY)
    events = [json.loads(x["message"])["message"] for x in logged(browser, "performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    outside = {url for url in asked if not url.startswith("data:")}
    folder = address.removesuffix("page.html")
    assert address in outside
    assert all(url.startswith(folder) for url in outside)
    assert len(outside) == (1 if name == "embedded" else 2)
    assert logged(browser, "browser") == []


def test_without_scripts_it_is_a_player_a_waveform_and_a_table(
    browser: Chrome, pages: dict[str, tuple[str, Turns]]
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages["plain"][0])
        for part in ("h1", "audio", ".wave", "table"):
            assert one(browser, part).is_displayed()
        rows = [row.text for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr")]
        assert rows[0] == "0:00.5 0:02.0 ana"
        assert len(rows) == len(SPANS)
        # What would do nothing is not offered.
        for part in ("#keys", "#speakers"):
            assert not one(browser, part).is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# For everybody ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [NARROW, PHONE])
@pytest.mark.parametrize("name", ["plain", "hostile", "nobody"])
def test_on_a_phone_nothing_overlaps_and_nothing_sticks_out(
    browser: Chrome, pages: dict[str, tuple[str, Turns]], name: str, size: tuple[int, int]
) -> None:
    show(browser, pages[name][0], size)
    assert script(browser, "return document.documentElement.scrollWidth") <= size[0]
    assert script(browser, OVERLAPS) == []


def test_zoom_widens_the_timeline_and_not_the_page(
    browser: Chrome, pages: dict[str, tuple[str, Turns]]
) -> None:
    show(browser, pages["many"][0], NARROW)
    wide = "return document.querySelector('.timeline').clientWidth"
    before = script(browser, wide)
    one(browser, "#zoom").send_keys(Keys.ARROW_RIGHT * 3)
    assert script(browser, wide) == 8 * before
    marks = [mark.text for mark in browser.find_elements(By.CSS_SELECTOR, ".axis span")]
    assert marks[:3] == ["0:00", "0.2 s", "0.4 s"]
    # The names stay where they are seen.
    script(browser, "document.querySelector('.scroll').scrollLeft = 900")
    where = "return document.querySelector('.who').getBoundingClientRect().left"
    assert 0 <= script(browser, where) < 40
    assert script(browser, "return document.documentElement.scrollWidth") <= NARROW[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    browser: Chrome, pages: dict[str, tuple[str, Turns]], scheme: Scheme
) -> None:
    show(browser, pages["plain"][0], DESK, scheme)
    assert grave(browser) == []


def test_everything_has_a_name(browser: Chrome, pages: dict[str, tuple[str, Turns]]) -> None:
    show(browser, pages["plain"][0])
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named: dict[str, list[str]] = {}
    for node in tree:
        role = node.get("role", {}).get("value", "")
        named.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert {"ana, 0:00.5 to 0:02.0", "Hear ben", "Save RTTM", "Save SRT"} <= set(named["button"])
    assert "Name of cy" in {*named.get("textbox", []), *named.get("combobox", [])}
    assert "ana 2 turns, 4.0 s" in named["group"]
    assert named["heading"] == ["talk", "Who speaks when", "Speakers", "All turns"]
    assert "Loudness over time" in named["image"]
    assert all(named["button"])


# Without a browser --------------------------------------------------------------------------------


def test_a_recording_is_found_from_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert page.beside(Path("a b.wav"), Path("x.html")) == "a%20b.wav"
    assert page.beside(Path("talks/a.wav"), Path("out/x.html")) == "../talks/a.wav"
    assert page.beside(Path("a:b#?%.wav"), tmp_path / "x.html") == "a%3Ab%23%3F%25.wav"
    assert page.beside(Path('"\udcff.wav'), Path("x.html")) == "%22%FF.wav"
    # A link leads where the recording lies, and so does the address.
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    there = tmp_path / "link" / ".." / "a.wav"
    assert page.beside(there, tmp_path / "x.html") == "real/a.wav"
    assert page.beside(tmp_path / "a.wav", tmp_path / "link" / "x.html") == "../../a.wav"


def test_quiet_and_short_recordings_have_pages() -> None:
    quiet = np.zeros(page.COLUMNS, np.float32)
    text = page.page(Turns(()), quiet, 1 / RATE, "a.wav", "a.wav")
    assert "0 speakers, 0 turns" in text
    assert "nan" not in page._wave(quiet)
    assert json.loads(page._data(Turns(()), 0.0, "a.wav"))["duration"] > 0
