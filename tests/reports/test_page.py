"""The page: self-contained, escaped, complete without scripts, and the verdict comes first."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import made_results
import pytest

from samevoice.parity.result import Result
from samevoice.reports import page
from samevoice.reports.canvas import Undrawn
from samevoice.reports.plots.errors import ladder
from samevoice.reports.view import View, view


class Outline(HTMLParser):
    """Headings, ids, links and what a screen reader needs, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[tuple[int, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if any(re.fullmatch("h[1-6]", tag) for tag in self.inside):
            level, said = self.headings[-1]
            self.headings[-1] = (level, said + data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def undrawn(shown: View) -> list[list[Undrawn]]:
    """Pictures cost most of the time, and have tests of their own."""
    keys = ("ladder", "histogram", "similarities")
    return [[Undrawn(key, key, "not in this test") for key in keys]]


def made(result: Result, **details: Any) -> str:
    shown = view(replace(result, details={**result.details, **details}), "port")
    return page.html(shown, drawn=undrawn(shown))


@pytest.fixture(scope="module")
def red() -> str:
    return page.html(view(made_results.red("segmentation", "lstm.0.forward"), "port"))


@pytest.fixture(scope="module")
def several() -> str:
    results = {"good": made_results.green(), "spoilt": made_results.red()}
    drawn = [[ladder(result)] for result in results.values()]
    return page.html([view(result, name) for name, result in results.items()], drawn=drawn)


def test_the_verdict_is_the_first_heading(red: str) -> None:
    outline = Outline(red)
    assert outline.headings[0] == (1, "✗ This port may not be trusted.")
    assert outline.headings[1] == (2, "What went wrong")
    assert "<title>failed: port: segmentation, float32 on cpu</title>" in red


@pytest.mark.parametrize("kind", ["red", "several"])
def test_headings_come_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    levels = [level for level, _ in Outline(request.getfixturevalue(kind)).headings]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


@pytest.mark.parametrize("kind", ["red", "several"])
def test_nothing_is_fetched(kind: str, request: pytest.FixtureRequest) -> None:
    outline = Outline(request.getfixturevalue(kind))
    for name, attrs in outline.tags:
        for key in ("src", "href", "xlink:href", "action", "data"):
            target = attrs.get(key)
            assert target is None or target.startswith(("#", "data:")), (name, key, target)
    assert not {"iframe", "object", "embed", "base", "form"} & {name for name, _ in outline.tags}
    for link in outline.all("link"):
        assert link["href"] == "data:,"


@pytest.mark.parametrize("kind", ["red", "several"])
def test_ids_are_unique_and_links_lead_somewhere(kind: str, request: pytest.FixtureRequest) -> None:
    outline = Outline(request.getfixturevalue(kind))
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in outline.all("a"):
        assert str(attrs["href"])[1:] in ids
    for _, attrs in outline.tags:
        assert attrs.get("aria-labelledby", ids[0]) in ids


def test_only_the_pages_own_script_may_run(red: str) -> None:
    policy = next(x["content"] for x in Outline(red).all("meta") if "http-equiv" in x)
    script = re.search(r"<script>(.*?)</script>", red, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert red.count("<script") == 1
    assert not re.search(
        r"\son[a-z]+\s*=", re.sub(r"<(script|style)>.*?</\1>", "", red, flags=re.S)
    )


def test_tables_and_pictures_speak(red: str) -> None:
    outline = Outline(red)
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(attrs.get("scope") for attrs in outline.all("th"))
    drawn = [attrs for attrs in outline.all("svg") if attrs.get("role") == "img"]
    assert drawn == outline.all("svg")
    assert all(attrs["aria-label"] for attrs in drawn)
    assert outline.all("html") == [{"lang": "en"}]


def test_it_is_complete_without_scripts(red: str) -> None:
    result = made_results.red("segmentation", "lstm.0.forward")
    bare = re.sub(r"<script>.*?</script>", "", red, flags=re.DOTALL)
    rows = re.findall(r'<tr class="[xpq] d\d+">', bare)
    assert len(rows) == len(result.taps)
    assert "hidden" not in "".join(rows)
    assert re.search(r'<div class="tools"[^>]* hidden>', bare)


def test_a_red_page_says_what_to_do(red: str) -> None:
    text = " ".join(Outline(red).text)
    assert "Next:" in text
    assert "lstm.0.forward" in text
    named = made(made_results.red(), reproduction="reproduction")
    assert "The folder <code>reproduction</code> beside this page" in named
    assert "samevoice judge" in named


def test_the_command_can_be_copied(red: str) -> None:
    assert '<pre tabindex="0"><code>samevoice parity out/segmentation --source' in red


def test_loosened_limits_are_red_and_the_page_is_no_green_one() -> None:
    text = made(made_results.loosened())
    assert 'class="verdict care"' in text
    assert '<tr class="loosened">' in text
    assert "This port passes, but its limits were loosened." in text
    assert '<tr class="loosened">' not in made(made_results.green())


def test_doubtful_taps_are_named() -> None:
    result = made_results.green()
    taps = list(result.taps)
    far = replace(taps[0], reference_rms=taps[0].truth_rms, noise_ratio=0.1)
    text = made(replace(result, taps=(far, *taps[1:])))
    assert "PyTorch's own float32 is more than 1 % away" in text.replace("&#39;", "'")
    assert text.count('<tr class="q') == 1


def test_tensors_and_gallery_are_there() -> None:
    text = made(
        made_results.green(),
        tensors={"counts": {"used": 3}, "dropped": [{"why": "a counter", "names": ["n<1>"]}]},
        gallery=[
            {"bug": "a <b> bug", "found": "x", "where": "y", "noise_ratio": 5.0, "right": False}
        ],
    )
    assert "1 dropped: a counter" in text
    assert "n&lt;1&gt;" in text
    assert "a &lt;b&gt; bug" in text
    assert "expected y" in text
    assert "0 of 1 bugs handled correctly" in text


def test_a_picture_that_is_missing_is_said() -> None:
    assert "Not drawn: not in this test." in made(made_results.green())


def test_what_cannot_be_seen_is_written_out() -> None:
    result = made_results.green()
    artefact = replace(result.bundle, notes={"name": "a\u202eb\x00c"})
    text = page.html(view(replace(result, bundle=artefact)), drawn=[[]])
    assert "a\\u202eb\\x00c" in text
    assert "\u202e" not in text
    assert "\x00" not in text


def test_several_stand_side_by_side(several: str) -> None:
    text = " ".join(Outline(several).text)
    assert "1 of 2 ports may be trusted." in text
    assert "Taps that they share" in text
    heads = re.search(r'<table class="beside">.*?</thead>', several, re.DOTALL)
    assert heads is not None
    assert re.findall(r">(good|spoilt)<", heads[0]) == ["good", "spoilt"]
    assert 'id="r1-ladder"' in several
    assert 'id="r2-ladder"' in several


def test_results_that_share_nothing_still_make_a_page() -> None:
    views = [view(made_results.copied(), "a"), view(made_results.green(), "b")]
    text = page.html(views, drawn=undrawn(views[0]) * 2)
    assert "Both ports may be trusted." in text
    assert "these results share no tap" in text
    assert "Taps that they share" not in text


def test_thousands_of_taps_fit_into_a_page() -> None:
    shown = view(made_results.many(5000), "many")
    assert len(page.html(shown, drawn=undrawn(shown)).encode()) < 2_000_000
