"""The page of an evaluation: what it says, what it draws, and who may write into it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import made_results
import pytest
from headless import DESK, OVERLAPS, PHONE, Scheme, grave, logged, one, script, show
from made_evaluations import HALF, LENGTH, MADE, TALK
from selenium import webdriver
from selenium.webdriver.common.by import By

from samevoice.evaluation import figures
from samevoice.evaluation.corpus import Corpus, Recording
from samevoice.evaluation.evaluated import Evaluation
from samevoice.evaluation.run import Result
from samevoice.evaluation.scores import judge
from samevoice.evaluation.systems import Written
from samevoice.outputs import is_result
from samevoice.reports.evaluation import LISTED, html, junit, markdown
from samevoice.reports.plots.evaluation import alike, joined
from samevoice.reports.text import visible

pytestmark = pytest.mark.long

pytest.importorskip("pyannote.metrics")

MEGABYTE = 1_000_000

STATES = {"worse": "bad", "better": "good", "same": "good"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("evaluations")
    for name, make in MADE.items():
        (folder / f"{name}.html").write_text(html(make()), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in MADE}


# What it says -------------------------------------------------------------------------------------


def test_both_forms_open_with_the_answer_in_its_colour(pages: dict[str, Path]) -> None:
    marks = {"good": "✅", "bad": "❌", "even": "📊"}
    for name in MADE.keys() - {"hostile"}:
        evaluation = MADE[name]()
        head, _, rest = evaluation.answer.partition(": ")
        state = STATES.get(name, "even")
        page, text = pages[name].read_text(), markdown(evaluation)
        box = page[page.index('class="verdict ') :]
        assert box.startswith(f'class="verdict {state}"')
        assert head.replace("'", "&#39;") in box
        assert rest[1:].replace("'", "&#39;") in box
        assert text.startswith(f"## {marks[state]} samevoice evaluation of `meetings`\n")
        assert head in text.split("\n")[2]
        assert rest[1:] in text.split("\n")[2]
        assert "Not drawn" not in page
        (pages[name].parent / "evaluation.md").write_text(text)
        assert is_result(pages[name], "evaluation.html")
        assert is_result(pages[name].parent / "evaluation.md", "evaluation.md")


def test_the_figures_are_those_of_the_terminal(pages: dict[str, Path]) -> None:
    # B misses 5 of 9 s. In each of six recordings, so that there is no doubt.
    page, text = pages["worse"].read_text(), markdown(MADE["worse"]())
    for cell in ("0.0% (0.0-0.0)", "55.6% (55.6-55.6)", "+55.6 (+55.6, +55.6)"):
        assert f">{cell}<" in page
        assert f"| {cell} |" in text
    assert "<td>broken.wav is cut off</td>" in page
    assert "- `broken`: broken.wav is cut off" in text
    assert "1 recording failed and is left out" in page
    assert "| `talk0` | 10.0 | 2 | 2 | 1 | 0.0% | 55.6% | +55.6 |" in text


def test_without_references_only_the_pair_is_told(pages: dict[str, Path]) -> None:
    page = pages["without"].read_text()
    assert "JER A" not in page
    assert ">reference<" not in page
    assert "1 of 2" in page
    assert ": B 55.6% from A" in page
    assert "Grey parts" not in page
    assert "Grey parts are not scored" in pages["better"].read_text()


def test_many_recordings_make_a_page_that_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESAMPLINGS", 10)
    count, scores = LISTED + 500, judge(TALK, HALF, ((0.0, LENGTH),))
    recordings = tuple(Recording(f"r{k}", Path(f"r{k}.wav"), TALK) for k in range(count))
    results = {x.uri: (Result(lambda: HALF, LENGTH, ((0, LENGTH),), scores),) for x in recordings}
    failed = {f"f{k}": "cut off" for k in range(1000)}
    system = Written("ours", {"kind": "rttm"}, {})
    page = html(Evaluation(Corpus("many", recordings), (system,), results, failed))
    assert len(page) < MEGABYTE
    assert f"The first {LISTED:,} of {count:,} recordings, the highest DER first" in page
    assert page.count("<td>cut off</td>") == 200
    assert "1,000 recordings without a result; the first 200 are listed" in page


# JUnit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MADE))
def test_junit_has_a_case_for_each_recording_and_an_error_for_each_that_failed(name: str) -> None:
    made = MADE[name]()
    root = ElementTree.fromstring(junit(made).encode())
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == [visible(x) for x in (*made.results, *made.failed)]
    assert root.get("tests") == str(len(cases))
    assert (root.get("failures"), root.get("errors")) == ("0", str(len(made.failed)))
    for uri, why in made.failed.items():
        (error,) = cases[visible(uri)]
        assert (error.tag, error.get("message")) == ("error", visible(why))
    for uri in made.results:
        (figures,) = cases[visible(uri)]
        assert figures.tag == "system-out"
        assert cases[visible(uri)].get("time") == f"{len(made.systems)}.000"
    answer = next(one for one in root.iter("property") if one.get("name") == "answer")
    assert answer.get("value") == made.answer


def test_junit_tells_the_figures_of_each_recording() -> None:
    root = ElementTree.fromstring(junit(MADE["worse"]()).encode())
    assert str(next(root.iter("system-out")).text) == (
        "seconds 10.0, speakers 2, found A 2, found B 1, DER A 0.0%, DER B 55.6%, B - A +55.6, "
        "JER A 0.0%, JER B 50.0%, B against A 55.6%"
    )
    (suite,) = root
    assert suite.get("name") == "meetings: ours and theirs"


# Who speaks when ----------------------------------------------------------------------------------


def test_one_speaker_has_one_name_on_every_side() -> None:
    reference = [(0.0, 4.0, "ana"), (4.0, 8.0, "bob")]
    a = [(0.0, 4.0, "1"), (4.0, 8.0, "2"), (8.0, 10.0, "bob")]
    b = [(0.0, 4.0, "2"), (4.0, 8.0, "1"), (8.0, 10.0, "3"), (10.0, 11.0, "4")]
    first, second, third = alike([reference, a, b])
    assert first == reference
    assert [who for *_, who in second] == ["ana", "bob", "bob (other)"]
    assert [who for *_, who in third] == ["ana", "bob", "bob (other)", "4"]


def test_hours_of_short_turns_stay_small() -> None:
    turns = [(0.02 * k, 0.02 * k + 0.01, "ana") for k in range(10_000)]
    # What is shorter than a step is one step long: the last of these from 200 to 200.5 s.
    found = joined([*turns, (250.0, 251.0, "ana"), (300.0, 300.001, "bob")], 0.5)
    assert found == [(0.0, 200.5, "ana"), (250.0, 251.0, "ana"), (300.0, 300.5, "bob")]


# Names from outside -------------------------------------------------------------------------------


def test_hostile_names_are_seen_and_do_nothing(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    show(browser, pages["hostile"].as_uri())
    assert script(browser, "return document.scripts.length") == 1
    odd = "return document.querySelectorAll('img, iframe, object, form, evil, b').length"
    assert script(browser, odd) == 0
    handlers = (
        "return [...document.querySelectorAll('*')].flatMap(x => x.getAttributeNames())"
        ".filter(name => name.startsWith('on'))"
    )
    assert script(browser, handlers) == []
    text = script(browser, "return document.querySelector('main').textContent")
    for name in made_results.HOSTILE:
        assert visible(name) in text
        assert visible(f"why: {name}") in text
    assert logged(browser, "browser") == []


def test_nothing_unseen_comes_out_and_markdown_holds_no_markup(pages: dict[str, Path]) -> None:
    text = markdown(MADE["hostile"]())
    for words in (text, pages["hostile"].read_text(encoding="utf-8")):
        unseen = {x for x in words if unicodedata.category(x) in {"Cc", "Cf", "Cs", "Cn"}}
        assert unseen <= {"\n"}
    for markup in ("<script", "<img", "<svg", "![", "](http", "://"):
        assert markup not in text


# In a browser -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["worse", "single", "without", "one"])
def test_it_is_seen_at_once_and_fits_a_phone(
    browser: webdriver.Chrome, pages: dict[str, Path], name: str
) -> None:
    address = pages[name].as_uri()
    show(browser, address, PHONE, "dark")
    heading = one(browser, "h1")
    assert heading.rect["y"] + heading.rect["height"] <= PHONE[1] / 2
    assert script(browser, "return document.documentElement.scrollWidth") <= PHONE[0]
    assert script(browser, OVERLAPS) == []
    asked = {
        event["params"]["request"]["url"]
        for entry in logged(browser, "performance")
        if (event := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {address}
    assert logged(browser, "browser") == []


def test_recordings_are_sorted_and_filtered(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    show(browser, pages["single"].as_uri())

    def names() -> list[str]:
        rows = browser.find_elements(By.CSS_SELECTOR, "[data-taps] tbody tr")
        return [row.text.split()[0] for row in rows if row.is_displayed()]

    assert names() == ["talk0", "talk2", "talk1"]
    column = "[data-taps] thead th:nth-child(5)"
    one(browser, f"{column} button").click()
    one(browser, f"{column} button").click()
    assert one(browser, column).get_attribute("aria-sort") == "ascending"
    assert names() == ["talk1", "talk0", "talk2"]
    one(browser, "[data-taps] input[type=search]").send_keys("talk2")
    assert names() == ["talk2"]
    assert one(browser, "[data-count]").text == "1 of 3 recordings shown"


@pytest.mark.parametrize(
    ("name", "scheme", "part"),
    [("worse", "light", None), ("single", "dark", ".verdict"), ("single", "light", ".verdict")],
)
def test_axe_finds_nothing_serious(
    browser: webdriver.Chrome, pages: dict[str, Path], name: str, scheme: Scheme, part: str | None
) -> None:
    show(browser, pages[name].as_uri(), DESK, scheme)
    assert grave(browser, part) == []
