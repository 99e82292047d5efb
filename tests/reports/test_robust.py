"""Reports of results that are huge, broken, cut off, edited or hostile."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import made_results
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typed import ended as run

from samevoice.parity.result import Result, dumps, read, write
from samevoice.reports import page
from samevoice.reports.canvas import Undrawn
from samevoice.reports.ci import error_lines, junit, markdown, summary
from samevoice.reports.index import write_index
from samevoice.reports.plots.errors import scatter
from samevoice.reports.plots.task import diarizations, timelines
from samevoice.reports.text import visible
from samevoice.reports.view import view
from samevoice.reports.write import write_all, write_reports

MEGABYTE = 1_000_000


class Parts(HTMLParser):
    """What a page is made of: tags with the names of their attributes, links, scripts, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[tuple[str, str]] = set()
        self.links: set[str] = set()
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self.links |= {str(value) for name, value in attrs if name in ("href", "src", "xlink:href")}
        self.text += [str(value) for name, value in attrs if name in ("aria-label", "title")]
        self.inside = tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.text).append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_comment(self, data: str) -> None:
        self.tags.add(("a comment", data))


def parts(path: Path) -> Parts:
    return Parts(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """All that a page may be made of, from results that mean no harm."""
    folder = tmp_path_factory.mktemp("harmless")
    known = Parts("")
    limits = ["resnet.pool:max_abs=5", "noise_ratio=1e9"]
    for name, result in {
        "red": made_results.red(details=made_results.hostile().details | {"errors": {}}),
        "segmentation": made_results.red("segmentation", "lstm.0.forward"),
        "loosened": made_results.red(limits=limits),
    }.items():
        write(folder / name / "result.json", result)
        write_reports(folder / name / "result.json", formats=("html",))
        page = parts(folder / name / "report.html")
        known.tags |= page.tags
        known.scripts += page.scripts
    (folder / "cut").mkdir()
    (folder / "cut" / "result.json").write_text("{")
    known.tags |= parts(write_index(folder)).tags
    return known


# Injection ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every file that is written of a hostile result, and of it beside another."""
    folder = tmp_path_factory.mktemp("hostile")
    hostile = made_results.hostile()
    write(folder / "<b>one" / "result.json", hostile)
    files = write_reports(folder / "<b>one" / "result.json")
    beside = dict.fromkeys(made_results.HOSTILE[:3], hostile) | {"red": made_results.red()}
    files += write_all(beside, folder / "beside")
    files.append(write_index(folder))
    return {path.relative_to(folder).as_posix(): path for path in files}


def test_the_page_holds_nothing_that_a_harmless_one_does_not(
    attacked: dict[str, Path], harmless: Parts
) -> None:
    for name in ("<b>one/report.html", "index.html"):
        page = parts(attacked[name])
        assert page.tags <= harmless.tags, name
        assert set(page.scripts) <= set(harmless.scripts), name
        assert [link for link in page.links if not _is_within(link)] == [], name


def test_several_side_by_side_hold_nothing_either(attacked: dict[str, Path]) -> None:
    page = parts(attacked["beside/report.html"])
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"b", "img", "evil", "iframe", "object", "a comment", "form"}
    assert not [name for _, name in page.tags if name.startswith("on")]
    assert len(page.scripts) == 1
    assert all(_is_within(link) for link in page.links)


def _is_within(link: str) -> bool:
    return link.startswith(("#", "data:,", "data:image/png;base64,", "%3Cb%3Eone/", "beside/"))


def test_every_hostile_text_can_still_be_read(attacked: dict[str, Path]) -> None:
    page = " ".join("".join(parts(attacked["<b>one/report.html"]).text).split())
    for text in made_results.HOSTILE:
        assert visible(text) in page


def test_nothing_unseen_comes_out(attacked: dict[str, Path]) -> None:
    kinds = set()
    for name, path in attacked.items():
        kinds.add(path.suffix)
        text = path.read_bytes().decode("utf-8")
        unseen = {
            x for x in text if unicodedata.category(x) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")
        }
        assert unseen <= {"\n"}, name
    assert {".html", ".md", ".xml", ".svg"} <= kinds


def test_plots_and_junit_stay_valid_xml(attacked: dict[str, Path]) -> None:
    drawn = [path for path in attacked.values() if path.suffix in (".svg", ".xml")]
    assert drawn
    for path in drawn:
        tags = {one.tag.rpartition("}")[2] for one in ElementTree.parse(path).iter()}
        assert not tags & {"script", "evil", "img", "b", "foreignObject", "a"}, path


def test_the_summary_and_the_annotations_are_lines(attacked: dict[str, Path]) -> None:
    del attacked
    hostile = {"x": made_results.hostile()}
    assert "<script>" not in summary(hostile)
    assert "<img" not in summary(hostile)
    assert all(len(line.splitlines()) == 1 for line in error_lines(hostile))


# Any kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["red task", "nan", "infinite", "zero-sized", "missing", "loosened", "copied"]
)
def test_every_kind_of_result_has_all_its_reports(made: dict[str, Path], name: str) -> None:
    files = write_reports(made[name])
    assert {"report.html", "report.md", "junit.xml"} <= {path.name for path in files}
    text = " ".join("".join(parts(files[0]).text).split())
    result = read(made[name])
    trusted = result.passed and not result.loosened
    assert ("This port may be trusted." in text) == trusted


def strange(value: Any) -> Result:
    return replace(made_results.red(), details=value)


KEYS = [
    "errors",
    "tensors",
    "gallery",
    "scatter",
    "timelines",
    "diarization",
    "task_rows",
    "seconds",
    "reproduction",
    "device",
    "torch_threads",
]


@pytest.mark.parametrize(
    "value", [None, 5, "<b>", [], [None, 5, [{}]], {"<b>": None}, float("nan")]
)
def test_details_are_free_so_anything_may_stand_there(value: Any, tmp_path: Path) -> None:
    result = strange(dict.fromkeys(KEYS, value))
    write(tmp_path / "result.json", result)
    page = parts(write_reports(tmp_path / "result.json")[0])
    assert ("b", "") not in page.tags
    assert "This port may not be trusted." in "".join(page.text)


KNOWN = (
    *("counts", "used", "derived", "dropped", "names", "why", "assumed", "bug", "found", "index"),
    *("reference", "candidate", "classes", "step", "start", "waveform", "duration", "truth"),
    *("flips_listed", "confusion", "kendall_tau", "noise", "margin", "decision_agreement"),
)
EVIL = "<evil onclick=x>"
LEAVES = st.sampled_from((None, True, 0, 3, -1, 1e308, 10**400, math.nan, math.inf, "", EVIL, "1"))
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*KNOWN, EVIL)), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from((*KEYS, "voices")), VALUES, max_size=6),
    st.dictionaries(
        st.sampled_from(("similarity", "ranking", "agreement", EVIL)),
        st.dictionaries(st.sampled_from((*KNOWN, EVIL)), VALUES, max_size=5),
    ),
)
def test_whatever_stands_there_breaks_nothing_and_stays_text(
    details: dict[str, Any], task: dict[str, dict[str, Any]]
) -> None:
    result = replace(strange(details), task=task)
    shown = view(result, "x")
    said = [page.html(shown, drawn=[()]), markdown("x", result, {}), junit({"x": result})]
    assert not [text for text in (*said, summary({"x": result})) if "<evil" in text]


@settings(max_examples=8, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(("scatter", "timelines", "diarization"), VALUES)))
def test_whatever_is_drawn_costs_its_picture_only(details: dict[str, Any]) -> None:
    for one in (scatter, timelines, diarizations):
        found = one.tried(strange(details))
        assert isinstance(found, Undrawn) or EVIL not in found.svg


def test_dropped_tensors_without_a_name() -> None:
    tensors = {"counts": {"dropped": 1}, "dropped": [{"why": "no use", "names": []}]}
    said = markdown("x", strange({"tensors": tensors}), {})
    assert "- dropped: none, as no use" in said


def test_five_thousand_taps_stay_below_five_megabytes(tmp_path: Path) -> None:
    written = write_all({"many": made_results.many(5000)}, tmp_path)
    files = {path.name: path for path in written}
    page = files["report.html"]
    assert page.stat().st_size < 5 * MEGABYTE
    text = page.read_text(encoding="utf-8")
    assert text.count("blocks.249.18.attention.projection") >= 1
    assert "5,000 taps" in text
    assert files["report.md"].stat().st_size < 50_000
    root = ElementTree.parse(files["junit.xml"]).getroot()
    assert len(list(root.iter("testcase"))) == 5001


# Files that are no results ------------------------------------------------------------------------


def _edited(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(dumps(made_results.red()))
    change(document)
    return json.dumps(document)


def _passing(document: dict[str, Any]) -> None:
    document["passed"] = True


def _whitewashed(document: dict[str, Any]) -> None:
    _passing(document)
    document["first_divergence"] = None
    for tap in document["taps"]:
        tap |= {"passed": True, "reasons": []}


def _deep(depth: int) -> str:
    text = dumps(made_results.green())
    return text.replace('"details": {', '"details": {"x": ' + "[" * depth + "]" * depth + ", ", 1)


BROKEN = {
    "deep": (_deep(10**5), "is not JSON, or was cut off"),
    "too deep": (_deep(900), "is nested too deeply to be a result"),
    "empty": ("", "is not JSON, or was cut off"),
    "cut off": (dumps(made_results.green())[:5000], "is not JSON, or was cut off"),
    "no object": ("[1, 2]", "a result is a JSON object"),
    "another file": ('{"passed": true}', "this is no samevoice result"),
    "claims to pass": (_edited(_passing), "passed is True, but the figures say False"),
    "whitewashed": (_edited(_whitewashed), "claims to have passed, but noise_ratio"),
    "newer": (_edited(lambda x: x.update(schema=99)), "schema 99 is newer than"),
    "older": (_edited(lambda x: x.update(schema=0)), "schema 0 was never one"),
    "constants": ('{"schema": NaN}', "NaN is not JSON"),
    "a field more": (_edited(lambda x: x.update(more=1)), "1 keys are unknown, first more"),
    "a field less": (_edited(lambda x: x.pop("task")), "1 keys are missing, first task"),
    "hostile": (_edited(lambda x: x.update({"<b>\x1b[31m": 1})), "1 keys are unknown"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_is_no_result_is_one_line_and_exit_code_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, why = BROKEN[name]
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    for words in (("report", tmp_path / "result.json"), ("gate", tmp_path / "result.json")):
        assert run(*words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        assert why in said.err
        assert "Traceback" not in said.err
        assert "\x1b" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_bytes_that_are_no_text_and_files_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result.json").write_bytes(b"\xff\xfe\x00")
    assert run("report", tmp_path / "result.json") == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert run("report", tmp_path / "nowhere" / "result.json") == 2
    assert "No such file" in capsys.readouterr().err


def test_the_index_lists_all_that_is_broken(tmp_path: Path) -> None:
    for name, (text, _) in BROKEN.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text, encoding="utf-8")
    write(tmp_path / "red" / "result.json", made_results.red())
    page = " ".join("".join(parts(write_index(tmp_path)).text).split())
    assert f"0 of {len(BROKEN) + 1} results passed, {len(BROKEN)} could not be read." in page
    for name, (_, why) in BROKEN.items():
        assert f"{name}/result.json could not be read." in page
        assert why in page
