"""The report as Markdown: rendered as GitHub would, and nothing from outside becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import made_results
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from samevoice.parity.result import Result
from samevoice.reports.ci import markdown, summary
from samevoice.reports.text import code, inline, prose, visible

RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TAGS = {"h2", "h3", "h4", "p", "ul", "ol", "li", "strong", "code", "pre"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}


class Seen(HTMLParser):
    """Tags, attributes and text of a rendered page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        self.handle_comment(decl)

    def handle_pi(self, data: str) -> None:
        self.handle_comment(data)

    def unknown_decl(self, data: str) -> None:
        self.handle_comment(data)


def seen(text: str) -> Seen:
    return Seen(RENDERER.render(text))


def safe(text: str, images: int = 0) -> Seen:
    """Rendered, and without any markup but what a report has itself."""
    page = seen(text)
    assert {tag for tag, _ in page.tags} <= TAGS | ({"img"} if images else set())
    for tag, attributes in page.tags:
        allowed = {"img": {"src", "alt"}, "code": {"class"}}.get(tag, {"style", "start"})
        assert attributes.keys() <= allowed, (tag, attributes)
    assert sum(tag == "img" for tag, _ in page.tags) == images
    return page


def test_a_green_report_is_short_and_says_what_was_compared() -> None:
    text = markdown("port", made_results.green(), {"plots/error ladder.svg": "Errors, tap by tap"})
    page = safe(text, images=1)
    assert text.startswith("## ✅ `port` passed\n")
    assert "This port may be trusted." in page.text
    assert "samevoice parity out/embedding --source reference:embedding" in page.text
    assert made_results.SHA in page.text
    assert "went wrong" not in page.text
    image = next(attributes for tag, attributes in page.tags if tag == "img")
    assert image == {"src": "plots/error%20ladder.svg", "alt": "Errors, tap by tap"}
    assert len(text) < 10_000


def test_a_red_report_says_where_why_and_what_next() -> None:
    text = markdown("port", made_results.red(), {})
    page = safe(text)
    assert text.startswith("## ❌ `port` failed\n")
    assert "has the right values in other places" in page.text
    assert "Next: Look for a reshape" in page.text
    assert "embedding_cosine_min is 0.623662, but must be at least 0.999999" in page.text
    assert "| `resnet.pool` | `sample` | 1.35e+07 | 3 |" in text


def test_loosened_limits_are_listed() -> None:
    page = safe(markdown("port", made_results.loosened(), {}))
    assert "cosine_min at the outputs: 0.5 instead of 0.999999" in page.text
    assert "passed with care" in page.text


def test_dropped_tensors_are_counted_with_their_reason() -> None:
    tensors = {
        "counts": {"used": 181, "dropped": 2},
        "derived": [],
        "dropped": [{"why": "counts training steps", "names": ["a.num", "b.num"]}],
        "assumed": [],
    }
    page = safe(markdown("port", made_results.green(details={"tensors": tensors}), {}))
    assert "181 used, 2 dropped" in page.text
    assert "dropped: 2 such as a.num, as counts training steps" in page.text


def test_many_failed_taps_are_counted_not_listed() -> None:
    many = made_results.many(1500)
    text = markdown("port", many, {})
    assert f"{len(many.verdict.failed) - 12} more taps failed." in text
    assert len(text) < 10_000


@pytest.mark.parametrize("name", list(made_results.every_kind()))
def test_every_kind_of_result_has_a_report(name: str) -> None:
    result = made_results.every_kind()[name]
    page = safe(markdown(name, result, {}))
    assert ("may be trusted." in page.text) == (result.passed and not result.loosened)


FOLD = re.compile(r"<details><summary>\d+ taps</summary>|</details>")


@pytest.mark.parametrize("text", made_results.HOSTILE)
def test_a_hostile_text_is_shown_and_does_nothing(text: str) -> None:
    hostile: Result = made_results.hostile()
    page = safe(markdown(text, hostile, {f"{text}.svg": text}), images=1)
    assert visible(text) in page.text
    lines = summary({text: hostile}).splitlines()
    told = safe("\n".join(line for line in lines if not FOLD.fullmatch(line)))
    assert visible(text) in told.text
    image = next(attributes for tag, attributes in page.tags if tag == "img")
    assert ":" not in str(image["src"])


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_line_that_reads_as_it_stands(text: str) -> None:
    shown = visible(text)
    for wrote in (code(text), prose(text), inline(text)):
        assert "\n" not in wrote
        wrote.encode()
        for context in (f"x {wrote} y", f"| {wrote} |\n| --- |\n| {wrote} |"):
            page = safe(context)
            assert "".join(shown.split()) in "".join(page.text.split())
    page = safe(f"- {prose(text)}.")
    assert "".join(shown.split()) in "".join(page.text.split())


@pytest.mark.parametrize(
    ("text", "wrote"),
    [
        ("resnet.pool", "`resnet.pool`"),
        ("a|b", "<code>a&#124;b</code>"),
        ("a`b", "<code>a&#96;b</code>"),
        (" x", "<code> x</code>"),
        ("a\nb\u202e", "<code>a&#92;nb&#92;u202e</code>"),
    ],
)
def test_code(text: str, wrote: str) -> None:
    assert code(text) == wrote


@pytest.mark.parametrize(
    ("text", "wrote"),
    [
        ("noise_ratio is 3, not 2", "noise_ratio is 3, not 2"),
        ("_x_ *y*", "&#95;x&#95; &#42;y&#42;"),
        ("- a list", "&#45; a list"),
        ("1. a list", "&#49;&#46; a list"),
        ("1.5 times", "1.5 times"),
        ("38 used, 16 derived", "38 used, 16 derived"),
        ("ask @somebody", "`ask @somebody`"),
        ("see http://x.y", "`see http://x.y`"),
        ("see <http://x.y>", "<code>see &#60;http&#58;//x.y&#62;</code>"),
    ],
)
def test_prose(text: str, wrote: str) -> None:
    assert prose(text) == wrote
