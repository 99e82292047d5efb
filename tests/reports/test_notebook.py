"""In a notebook: the report's verdict, table and ladder, with styles that stay in their place."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import made_results
import numpy as np
import pytest
from headless import logged, script, show
from selenium.webdriver import Chrome

from samevoice.parity.judge import Verdict, judge_pair
from samevoice.parity.result import Artefact, Result, write
from samevoice.reports import notebook
from samevoice.reports.notebook import SCOPE
from samevoice.reports.view import view

TAGS = (
    *("div", "style", "p", "strong", "span", "ul", "li", "ol", "table", "caption", "thead"),
    *("tbody", "tr", "th", "td", "figure", "figcaption", "img"),
)
ATTRIBUTES = {"class", "aria-hidden", "scope", "alt", "src"}


class Parts(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, str(value)) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words[self.tags[-1]] = self.words.get(self.tags[-1], "") + data

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def html(shown: Result | Verdict) -> str:
    return shown._repr_html_()


def picture(text: str) -> str:
    (source,) = Parts(text).all("src")
    kind, _, content = source.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


@pytest.fixture(scope="module")
def red() -> Result:
    return made_results.red("segmentation", "lstm.0.forward")


def test_a_result_shows_what_failed_and_the_ladder(red: Result) -> None:
    text = html(red)
    assert "This port may not be trusted." in text
    assert "<strong>segmentation</strong> against reference:segmentation" in text
    assert "MLX leaves PyTorch first at lstm.0.forward (sample)" in text
    assert "lstm.0.forward has the right values in other places" in text
    assert text.count("✗ failed") == 12
    assert "first divergence: lstm.0.forward" in picture(text)
    ElementTree.fromstring(picture(text).encode())


def test_a_verdict_shows_the_same_without_names(red: Result) -> None:
    text = html(red.verdict)
    assert "This port may not be trusted." in text
    assert "reference:segmentation" not in text
    assert "over 2 inputs" in text
    # Layers are not held to the last bit, as arrays without inputs are.
    assert "is not the source" not in text
    assert "lstm.0.forward has the right values in other places" in text
    assert picture(text) == picture(html(red))


def test_a_good_one_and_a_loosened_one() -> None:
    good, loose = html(made_results.green()), html(made_results.loosened())
    assert "This port may be trusted." in good
    assert "✗" not in good.partition("</style>")[2]
    assert "its limits were loosened" in loose
    assert '<ul class="loosened">' in loose


def test_nothing_compared_is_said() -> None:
    text = html(Verdict((), made_results.green().limits))
    assert "Nothing was compared, so nothing is proven." in text
    assert "Not drawn: no tap was compared." in text


def test_arrays_without_a_truth_are_no_port() -> None:
    one = np.linspace(0, 1, 100, dtype=np.float32)
    assert "Passed</p>" in html(judge_pair({"a": one}, {"a": one}))
    text = html(judge_pair({"a": one}, {"a": one * np.float32(1.1)}))
    said = text.partition("</style>")[2].partition("<figure>")[0]
    assert "Failed</p>" in said
    assert "PyTorch" not in said
    assert "port" not in said


# Nothing comes in or out --------------------------------------------------------------------------


def hostile() -> Result:
    """Every tap has a bad name, and fails; the first one's also stands in an attribute."""
    script, quote, *others = made_results.HOSTILE
    bad = (quote, script, *others)
    taps = [made_results.tap(name, lambda x: 2 * x, seed=9) for name in bad]
    names = {"name": script}
    bundle = Artefact(made_results.SHA, names)
    return made_results.judged([*taps, made_results.tap("output")], source=bundle, bundle=bundle)


@pytest.mark.parametrize("of", [Result, Verdict], ids=["result", "verdict"])
def test_names_are_words_and_nothing_else(of: type) -> None:
    text = html(hostile() if of is Result else hostile().verdict)
    parts = Parts(text)
    assert set(parts.tags) <= set(TAGS)
    assert {name for name, _ in parts.attributes} <= ATTRIBUTES
    assert parts.tags.count("img") == 1
    assert "<script>alert(1)</script> (sample)" in parts.words["span"]
    assert f"Everything from {made_results.HOSTILE[1]} on is off" in parts.words["strong"]
    assert made_results.HOSTILE[1] in dict(parts.attributes)["alt"]
    assert not re.search("[\u202e\x00\x1b]", text)


def test_styles_are_of_this_part_alone(red: Result) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", html(red), re.DOTALL)
    assert style.startswith(f"{SCOPE}{{")
    bare = re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", style, flags=re.DOTALL)
    depths = np.cumsum([{"{": 1, "}": -1}.get(letter, 0) for letter in bare])
    assert list(np.flatnonzero(depths == 0)[len(SCOPE) :]) == [len(bare) - 1]
    assert not re.search(r":root|(?<!t)body\{", style)
    assert "tbody th" in style


def test_a_page_around_it_stays_as_it_is(browser: Chrome, red: Result, tmp_path: Path) -> None:
    around = "<h1>x</h1><table><tr><td>y</td></tr></table>"
    rules = ".out table{table-layout:fixed}.out tbody tr:nth-child(odd){background:#000}"
    look = (
        "return [...document.querySelectorAll('body,h1,td')].slice(0, 3).map(x =>"
        " {const s = getComputedStyle(x);"
        "  return [s.font, s.margin, s.padding, s.color, s.backgroundColor, s.boxSizing]})"
    )
    said = []
    for content in ("", html(red)):
        place = tmp_path / "page.html"
        page = f"<meta charset=utf-8><style>{rules}</style>{around}<div class=out>{content}</div>"
        place.write_text(f"<!doctype html>{page}", encoding="utf-8")
        show(browser, place.as_uri())
        said.append(script(browser, look))
    assert said[0] == said[1]
    assert script(browser, "return document.querySelector('img').naturalWidth") > 0
    inside = "getComputedStyle(document.querySelector('.samevoice tbody tr')).backgroundColor"
    assert script(browser, f"return {inside}") == "rgba(0, 0, 0, 0)"
    headline = "getComputedStyle(document.querySelector('.headline')).color"
    assert script(browser, f"return {headline}") == "rgb(168, 18, 62)"
    assert logged(browser, "browser") == []


# Without what draws it ----------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from samevoice.parity.result import read
result = read(sys.argv[2])
sys.stdout.reconfigure(encoding="utf-8")
print(result._repr_html_(), result.verdict._repr_html_(), sep="\\n")
"""


@pytest.mark.parametrize("hidden", ["jinja2", "matplotlib"])
def test_without_an_extra_it_is_a_plain_table(hidden: str, tmp_path: Path) -> None:
    write(tmp_path / "result.json", hostile())
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, hidden, tmp_path / "result.json"],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        parts = Parts(line)
        assert {*parts.tags} == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
        assert parts.attributes == []
        assert "<script>alert(1)</script>" in parts.words["td"]
        assert f"{hidden}, which" in parts.words["p"]
        assert "pip install 'samevoice[parity]'" in parts.words["p"]


@pytest.mark.parametrize("result", [made_results.green, made_results.red])
def test_the_plain_table_says_the_verdict(result: Callable[[], Result]) -> None:
    made = result()
    text = notebook._plain(view(made), "because")
    assert text.startswith(f"<p><strong>{'passed' if made.passed else 'failed'}</strong></p>")
    assert text.count("<tr>") == 13
    assert ("resnet.pool (sample): noise_ratio is" in text) is not made.passed
