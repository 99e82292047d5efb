"""Report files: where they lie, what they are called, and that nothing is left half done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samevoice.parity.result import ResultError
from samevoice.reports import write as writing
from samevoice.reports.canvas import Plot, Undrawn
from samevoice.reports.write import ReportError, home_of, named, write_reports


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One quick picture for each result: what they show is tested elsewhere."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><title>x</title><path id="ladder-x"/></svg>'
    drawn = (Plot("ladder", "Ladder", svg, "look", "a line"), Undrawn("scatter", "S", "nothing"))
    monkeypatch.setattr("samevoice.reports.plots.plots", lambda result: drawn)


def test_a_report_lies_beside_its_result(made: dict[str, Path]) -> None:
    path = made["green"]
    written = write_reports(path)
    names = ["report.html", "report.md", "plots/ladder.svg", "junit.xml"]
    assert written == [path.parent / name for name in names]
    assert all(one.stat().st_size for one in written)
    assert not list(path.parent.rglob("*.aside"))
    assert "plots/ladder.svg" in (path.parent / "report.md").read_text()


def test_several_lie_in_a_folder_of_their_own(made: dict[str, Path], tmp_path: Path) -> None:
    paths = [made["green"], made["red"]]
    assert home_of(paths) == made["green"].parent.parent.resolve() / "comparison"
    written = write_reports(paths, tmp_path / "page")
    found = sorted(one.relative_to(tmp_path / "page").as_posix() for one in written)
    plots = ["plots/1-ladder.svg", "plots/2-ladder.svg"]
    assert found == sorted(["report.html", "report.md", "junit.xml", *plots])
    assert "1 of 2 ports may be trusted." in (tmp_path / "page" / "report.html").read_text()


@pytest.mark.parametrize(
    ("formats", "names"),
    [
        (["html"], {"report.html"}),
        (["junit"], {"junit.xml"}),
        (["markdown"], {"report.md", "plots/ladder.svg"}),
        (["plots"], {"plots/ladder.svg"}),
    ],
)
def test_only_what_was_asked_for(
    formats: list[Any], names: set[str], made: dict[str, Path], tmp_path: Path
) -> None:
    written = write_reports(made["green"], tmp_path, formats)
    assert {one.relative_to(tmp_path).as_posix() for one in written} == names


def test_the_same_result_gives_the_same_files(made: dict[str, Path], tmp_path: Path) -> None:
    first = {p.name: p.read_bytes() for p in write_reports(made["red"], tmp_path / "a")}
    second = {p.name: p.read_bytes() for p in write_reports(made["red"], tmp_path / "b")}
    assert first == second


def test_pictures_of_an_earlier_report_go(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    for name in ("timelines.svg", "2-scatter.svg", "my own.svg"):
        (tmp_path / "plots" / name).write_text("<svg/>")
    write_reports(made["green"], tmp_path)
    left = {path.name for path in (tmp_path / "plots").iterdir()}
    assert left == {"ladder.svg", "my own.svg"}


def test_names_tell_results_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a" / "seg" / "result.json", tmp_path / "b" / "seg" / "result.json"
    assert list(named([a, tmp_path / "emb" / "result.json"])) == ["seg", "emb"]
    assert list(named([a, b])) == [str(a), str(b)]
    with pytest.raises(ReportError, match="twice"):
        named([a, a])
    with pytest.raises(ReportError, match="no result"):
        write_reports([])


def test_an_edited_result_gets_no_report(made: dict[str, Path], tmp_path: Path) -> None:
    text = made["red"].read_text().replace('"passed": false', '"passed": true', 1)
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ResultError):
        write_reports(tmp_path / "result.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_that_cannot_be_made_leaves_the_old_one(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in write_reports(made["green"], tmp_path)}

    def broken(results: Any) -> str:
        raise ReportError("no")

    monkeypatch.setattr("samevoice.reports.ci.junit", broken)
    with pytest.raises(ReportError):
        write_reports(made["red"], tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_a_place_that_cannot_be_written_is_one_sentence(
    made: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot write a report to"):
        write_reports(made["green"], tmp_path / "file" / "below")
    assert writing.FORMATS == ("html", "markdown", "junit", "plots")
