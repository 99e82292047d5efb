"""The site: built strictly, with every page and command in it, and nothing that leads nowhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import doc_pages
import links
import pytest
from doc_pages import ROOT
from made_results import judged, taps_of
from typer.testing import CliRunner

from samevoice.cli import app
from samevoice.parity.result import write
from samevoice.reports.write import write_reports

pytestmark = pytest.mark.long

pytest.importorskip("sphinx", reason="sphinx is not installed: pip install 'samevoice[docs]'")

# Long tables, long signatures, pictures.
NARROW = ("index", "commands", "api", "models", "benchmarks", "a-real-report")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What parity leaves, of a made-up result."""
    folder = tmp_path_factory.mktemp("report")
    write(folder / "result.json", judged(taps_of("segmentation"), family="segmentation"))
    write_reports(folder / "result.json")
    return folder


def build(output: Path, report: Path, *more: object) -> subprocess.CompletedProcess[str]:
    words = [ROOT / "docs" / "make_site.py", output, "--report", report, *more]
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("built") / "site"
    done = build(output, report)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return output


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_every_page_is_in_it(site: Path) -> None:
    pages = {path.stem for path in doc_pages.pages()} - {"README"}
    assert {"index", "commands", "api", "models", "CONTRIBUTING"} < pages
    assert pages <= {path.stem for path in site.glob("*.html")}


def test_the_sidebar_has_what_people_want_to_do_in_order(site: Path) -> None:
    captions = re.findall(r'<span class="caption-text">(.+?)</span>', text_of(site / "models.html"))
    assert captions == [
        *("Hear who spoke", "Convert", "Prove", "Gate in CI"),
        *("Port your own", "Release", "Reference", "How it works"),
    ]


def helps() -> dict[str, str]:
    """The help of every command, as it is printed; "" is the command itself."""

    def said(*words: str) -> str:
        return CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output

    def below(text: str) -> list[str]:
        _, _, panels = text.partition("╭─ Options")
        rows = panels.split("╭─")[1:]
        return [name for row in rows for name in re.findall(r"^│ ([a-z]+)  ", row, re.MULTILINE)]

    found = {"": said()}
    for name in below(found[""]):
        found[name] = said(name)
        found |= {f"{name} {under}": said(name, under) for under in below(found[name])}
    return found


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    anchors, printed = links.read(site / "commands.html").anchors, helps()
    assert {"convert", "parity", "bench", "speakers", "speakers enroll"} < set(printed)
    for name, text in printed.items():
        assert not name or name.replace(" ", "-") in anchors
        options = set(re.findall(r"^│ [* ]  (--[a-z-]+)", text, flags=re.MULTILINE)) - {"--help"}
        program = f"samevoice {name}".strip().replace(" ", "-")
        for option in options:
            assert f"cmdoption-{program}-{option.strip('-')}" in anchors, f"{name} {option}"
    assert "cmdoption-samevoice-parity-source" in anchors
    assert "Compare on this recording too." in text_of(site / "commands.html")


def test_the_reference_has_defaults_and_examples(site: Path) -> None:
    plain = re.sub(r"<[^>]+>", "", text_of(site / "commands.html"))
    assert "Type of the weights: float32, float16 or bfloat16.  [default: float32]" in plain
    assert "A TOML file with a [limits] table." in plain
    assert "samevoice parity out/segmentation --source reference:segmentation" in plain


def test_the_api_is_from_the_docstrings(site: Path) -> None:
    anchors = links.read(site / "api.html").anchors
    assert {
        *("samevoice.convert", "samevoice.parity.compare", "samevoice.family.Family"),
        "samevoice.models.diarization.pipeline.SpeakerDiarizationPipeline.__call__",
        "samevoice.parity.hints.lay",
    } <= anchors
    plain = re.sub(r"<[^>]+>", "", text_of(site / "api.html"))
    assert "Convert a PyTorch checkpoint to an MLX bundle." in plain
    assert "dtype[Any]" not in plain


def test_the_report_is_there_and_linked(site: Path) -> None:
    found = links.read(site / "a-real-report.html")
    assert {"parity/report.html", "parity/result.json", "parity/junit.xml"} <= set(found.links)
    assert "parity/plots/ladder.svg" in found.loads
    assert "This port may be trusted." in text_of(site / "parity" / "report.html")


def test_every_link_leads_somewhere_and_nothing_is_fetched(site: Path) -> None:
    assert list(links.faults(site)) == []
    pages = [links.read(path) for path in site.rglob("*.html")]
    assert any("evaluation.html#what-a-corpus-is" in page.links for page in pages)
    loaded = [one for page in pages for one in page.loads]
    assert loaded
    assert not [one for one in loaded if re.match(r"(https?:)?//", one)]


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#here"></a><a href="#top"></a><a href="https://x.org"></a>'
        '<a href="b.html#gone"></a><a href="c.html"></a><a href="../"></a><img src="data:,x">'
        '<script src="https://x.org/x.js"></script><link href="//x.org/x.css"><img src="x.png">'
    )
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "s.css").write_text("@import 'https://x.org/y'; p {background: url(//x.org/z)}")
    assert list(links.faults(tmp_path)) == [
        "a.html: b.html#gone: there is no such anchor",
        "a.html: c.html: there is no such file",
        "a.html: ../: there is no such file",
        "a.html: loads https://x.org/x.js",
        "a.html: loads //x.org/x.css",
        "a.html: x.png: there is no such file",
        "s.css: loads https://x.org/y",
        "s.css: loads //x.org/z",
    ]


def test_the_search_index_knows_titles_and_words(site: Path) -> None:
    index = json.loads(text_of(site / "searchindex.js").removeprefix("Search.setIndex(")[:-1])
    assert {"Known voices", "The gallery", "Commands"} <= set(index["titles"])
    assert {"diariz", "quantiz"} & set(index["terms"])


def test_a_broken_link_and_a_page_left_out_fail(report: Path, tmp_path: Path) -> None:
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (docs / "alone.md").write_text("# Nobody links me\n")
    with (docs / "many.md").open("a") as page:
        page.write("\n[a](models.md#all-networks), [b](models.md#no-networks), [c](nothing.md)\n")
    absent = "# API\n\n```{eval-rst}\n.. autofunction:: samevoice.nothing\n```\n"
    (docs / "api.md").write_text(absent)
    done = build(tmp_path / "site", report, "--docs", docs)
    assert done.returncode != 0
    assert "alone.md: WARNING: document isn't included in any toctree" in done.stderr
    assert "'no-networks'" in done.stderr
    assert "'nothing.md'" in done.stderr
    assert "failed to import 'nothing' from module 'samevoice'" in done.stderr
    assert "all-networks" not in done.stderr


def test_a_report_that_lacks_a_file_fails(site: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(site, tmp_path / "site")
    (copy / "parity" / "junit.xml").unlink()
    fault = "a-real-report.html: parity/junit.xml: there is no such file"
    assert list(links.faults(copy)) == [fault]


@pytest.mark.parametrize("name", NARROW)
def test_no_page_is_wider_than_the_screen(name: str, site: Path, browser: Any) -> None:
    import headless

    for size in (headless.PHONE, headless.DESK):
        headless.show(browser, (site / f"{name}.html").as_uri(), size)
        wide = "return document.documentElement.scrollWidth - window.innerWidth"
        assert headless.script(browser, wide) <= 0
        assert headless.one(browser, "h1").is_displayed()


def test_a_search_finds_the_page(site: Path, browser: Any) -> None:
    import headless
    from selenium.webdriver.support.ui import WebDriverWait

    headless.show(browser, f"{(site / 'search.html').as_uri()}?q=enroll")
    found = "return [...document.querySelectorAll('#search-results li a')].map(x => x.textContent)"
    WebDriverWait(browser, 60).until(lambda it: headless.script(it, found))
    assert "Known voices" in headless.script(browser, found)
