"""samevoice report on evaluations, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_results
import pytest
from made_evaluations import HALF, RIGHT, made
from typed import Run

from samevoice.evaluation.evaluated import Evaluation
from samevoice.models.diarization.formats import json_text
from samevoice.parity.result import write
from samevoice.reports.evaluations import html

pytest.importorskip("pyannote.metrics")
WORSE = made([RIGHT] * 3, [HALF] * 3)
OTHER = made([RIGHT] * 3, [HALF] * 3, systems=("ours", "third"))


@pytest.fixture
def report(typed: Run, tmp_path: Path) -> Run:
    """In a folder with two evaluations, first and second, and a result of parity."""
    for name, one in {"first": WORSE, "second": OTHER}.items():
        save(one, tmp_path / name)
    write(tmp_path / "port" / "result.json", made_results.copied())
    return lambda words: typed(f"report {words}")


def save(found: Evaluation, folder: Path) -> None:
    folder.mkdir()
    (folder / "evaluation.json").write_text(json_text(found.as_dict()))


def test_an_evaluation_gets_its_page_again(report: Run) -> None:
    answer = report("first")
    assert (answer.code, answer.out, answer.err) == (0, "report: first/evaluation.html\n", "")
    assert Path("first/evaluation.html").read_text() == html({"": WORSE})
    names = ["evaluation.html", "evaluation.json", "evaluation.md", "junit.xml"]
    assert sorted(path.name for path in Path("first").iterdir()) == names
    assert report("first/evaluation.json --output page").code == 0
    assert Path("page/evaluation.html").read_text() == html({"": WORSE})


def test_several_are_side_by_side(report: Run) -> None:
    answer = report("first second/evaluation.json")
    assert answer.code == 0, answer.err
    head, columns, *lines, last = answer.out.splitlines()
    assert head == "meetings, 3 recordings"
    assert columns.split() == ["system", "DER", "JER", "speakers", "RTF"]
    assert [line.split() for line in lines] == [
        ["ours", "0.0%", "(0.0-0.0)", "0.0%", "(0.0-0.0)", "3", "of", "3", "0.100"],
        ["theirs", "55.6%", "(55.6-55.6)", "50.0%", "(50.0-50.0)", "0", "of", "3", "0.100"],
        ["third", "55.6%", "(55.6-55.6)", "50.0%", "(50.0-50.0)", "0", "of", "3", "0.100"],
    ]
    assert last.endswith("/comparison/evaluation.html")
    page = Path("comparison/evaluation.html").read_text()
    assert page == html({"first": WORSE, "second": OTHER})
    assert all(len(line) <= 80 for line in answer.out.splitlines()[:-1])


def test_lines_that_cannot_be_compared_are_marked(report: Run, tmp_path: Path) -> None:
    save(made([RIGHT] * 2), tmp_path / "fewer")
    said = report("first fewer").out
    assert "note  not all scored the same on meetings: its lines cannot be compared" in said


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.pop("timelines"), "lacks or misstates something (KeyError: 'timelines')"),
        (lambda x: x.update(schema=9), "is no evaluation.json of this version"),
        (lambda x: x.update(systems=[]), "it names no recordings, or no systems"),
        (lambda x: x.update(recordings=[]), "it names no recordings, or no systems"),
        (lambda x: x["recordings"][0].update(uri="talk1"), "a recording stands there twice"),
        (lambda x: x["recordings"][0].pop("B"), "lacks or misstates something (KeyError: 'B')"),
        (lambda x: x["recordings"][0].update(scored=3), "lacks or misstates something"),
        (lambda x: x["recordings"][0].update(overlap="much"), "lacks or misstates something"),
        (lambda x: x["recordings"][0]["A"].update(der={}), "lacks or misstates something"),
        (lambda x: x["recordings"][0].update(duration="long"), "lacks or misstates something"),
        (lambda x: x["recordings"][0]["B"].update(seconds=[1]), "lacks or misstates something"),
        (lambda x: x["timelines"][0].update(A=[["a"]]), "lacks or misstates something"),
    ],
)
def test_an_evaluation_that_is_damaged_is_one_line(
    report: Run, tmp_path: Path, change: Change, said: str
) -> None:
    path = tmp_path / "first" / "evaluation.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json_text(document))
    answer = report("first second")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
    assert not Path("comparison").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("first port", "port is no evaluation: name evaluations or results, not both"),
        ("port first", "port is no evaluation: name evaluations or results, not both"),
        ("first nowhere", "nowhere is no evaluation"),
        ("first first", "was named twice: name each result once"),
        ("first --github-summary", "--gallery and --github-summary go with results"),
        ("cut", "cut/evaluation.json is not JSON, or was cut off"),
        ("first --output taken", "evaluation.md exists and is not a result of this kind"),
        ("empty", "empty"),
    ],
)
def test_what_cannot_be_is_one_line(report: Run, words: str, said: str) -> None:
    for name in ("cut", "empty", "taken"):
        Path(name).mkdir()
    text = Path("first/evaluation.json").read_text()
    Path("cut/evaluation.json").write_text(text[:500])
    Path("empty/evaluation.json").write_text("")
    Path("taken/evaluation.md").write_text("mine")
    answer = report(words)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
