"""Evaluations that were saved, and several of them on one page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import made_results
import pytest
from headless import DESK, OVERLAPS, PHONE, grave, logged, one, script, show
from made_evaluations import HALF, MADE, RIGHT, made
from selenium import webdriver

from samevoice.evaluation import saved, several
from samevoice.evaluation.evaluated import Evaluation
from samevoice.models.diarization.formats import json_text
from samevoice.outputs import is_result
from samevoice.reports import evaluation
from samevoice.reports.evaluations import html, junit, markdown
from samevoice.reports.text import visible

pytestmark = pytest.mark.long

pytest.importorskip("pyannote.metrics")


def again(found: Evaluation, folder: Path) -> saved.Saved:
    (folder / "evaluation.json").write_text(json_text(found.as_dict()), encoding="utf-8")
    return saved.read(folder / "evaluation.json")


@pytest.mark.parametrize("name", list(MADE))
def test_what_was_saved_gives_the_same_page(name: str, tmp_path: Path) -> None:
    found = MADE[name]()
    back = again(found, tmp_path)
    assert evaluation.html(back) == evaluation.html(found)
    assert evaluation.markdown(back) == evaluation.markdown(found)
    assert evaluation.junit(back) == evaluation.junit(found)
    assert (back.as_dict(), back.to_csv()) == (found.as_dict(), found.to_csv())


# Several ------------------------------------------------------------------------------------------


def three() -> dict[str, Evaluation]:
    """On meetings ours is right, and the others miss 5 of 9 s; on calls there is only ours."""
    return {
        "first": made([RIGHT] * 6, [HALF] * 6),
        "second": made([RIGHT] * 6, [HALF] * 6, systems=("ours", "third")),
        "other": made([HALF] * 2, corpus="calls", failed={"broken": "cut off"}),
    }


def test_each_system_has_a_line_in_each_corpus_and_only_one() -> None:
    lines = several.lines(list(three().values()))
    assert [(line.corpus, line.system, line.recordings) for line in lines] == [
        ("meetings", "ours", 6),
        ("meetings", "theirs", 6),
        ("meetings", "third", 6),
        ("calls", "ours", 2),
    ]
    assert lines[1].cells == ["55.6% (55.6-55.6)", "50.0% (50.0-50.0)", "0 of 6", "0.100", ""]
    # A corpus that comes up again stands where it came first; other figures are another line.
    first, second, other = three().values()
    changed = made([HALF] * 6, systems=("ours",))
    lines = several.lines([first, other, changed])
    assert [line.corpus for line in lines] == ["meetings"] * 3 + ["calls"]
    assert several.lines([first, first]) == several.lines([first])
    assert second.corpus.name == "meetings"


def test_the_page_says_what_each_has() -> None:
    found = three()
    page, text = html(found), markdown(found)
    for words in (page, text):
        assert "4 systems on 2 corpora" in words
        assert "ours has the lowest DER on meetings: 0.0% (0.0-0.0)" in words
        assert "lowest DER on calls" not in words
        assert "cannot be compared" not in words
    for made_one in found.values():
        head, _, rest = made_one.answer.partition(": ")
        assert head in text
        assert rest in text
    assert page.count("<svg") == 1
    assert ">55.6% (55.6-55.6)<" in page
    assert "| `third` | `meetings` | 6 | 55.6% (55.6-55.6) | 50.0% (50.0-50.0) | 0 of 6 |" in text
    root = ElementTree.fromstring(junit(found).encode())
    assert (root.get("tests"), root.get("errors")) == ("15", "1")
    assert len(root) == 3


def test_lines_of_other_recordings_are_not_compared() -> None:
    found = {
        "a": made([RIGHT] * 3),
        "b": made([HALF] * 4, systems=("theirs",)),
    }
    for words in (html(found), markdown(found)):
        assert "Not all scored the same on" in words
        assert "lowest DER" not in words
    same = {"a": made([RIGHT] * 3), "b": made([HALF] * 3, systems=("theirs",))}
    assert "Not all scored the same" not in html(same)
    part = {"a": made([RIGHT] * 3), "b": made([HALF] * 3, scored=((0, 5),))}
    assert "Not all scored the same on meetings" in html(part)


def test_without_references_only_costs_are_told() -> None:
    found = {"a": MADE["without"](), "b": made([RIGHT], [HALF], reference=None, systems="xy")}
    assert "Not drawn: no evaluation has references" in html(found)
    assert "| `x` | `meetings` | 1 |  |  |  | 0.100 |  |" in markdown(found)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("evaluations")
    hostile = {
        name: made([HALF] * 2, names=(name, "x"), systems=(name,), corpus=name)
        for name in made_results.HOSTILE
    }
    texts = {"three": html(three()), "hostile": html(hostile)}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    (folder / "three.md").write_text(markdown(three()))
    (folder / "hostile.md").write_text(markdown(hostile), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def test_the_files_are_known_for_ours(pages: dict[str, Path]) -> None:
    assert is_result(pages["three"], "evaluation.html")
    assert is_result(pages["three"].with_suffix(".md"), "evaluation.md")


def test_hostile_names_are_seen_and_do_nothing(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    show(browser, pages["hostile"].as_uri())
    assert script(browser, "return document.scripts.length") == 1
    text = script(browser, "return document.querySelector('main').textContent")
    for name in made_results.HOSTILE:
        assert visible(name) in text
    assert logged(browser, "browser") == []
    words = pages["hostile"].with_suffix(".md").read_text(encoding="utf-8")
    for markup in ("<script", "<img", "<svg", "![", "](http", "://"):
        assert markup not in words


def test_it_fits_a_phone_and_axe_finds_nothing_serious(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    show(browser, pages["three"].as_uri(), PHONE, "dark")
    heading = one(browser, "h1")
    assert heading.rect["y"] + heading.rect["height"] <= PHONE[1] / 2
    assert script(browser, "return document.documentElement.scrollWidth") <= PHONE[0]
    assert script(browser, OVERLAPS) == []
    show(browser, pages["three"].as_uri(), DESK, "light")
    assert grave(browser, None) == []
    one(browser, "[data-taps] input[type=search]").send_keys("third")
    assert one(browser, "[data-count]").text == "1 of 4 systems shown"
