"""Many evaluations on one page: what moved, from when on, and what changed then."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made_evaluation import write
from made_release import edit

from samevoice.evaluation.systems import Written
from samevoice.reports.history import write_history
from samevoice.reports.write import ReportError

pytestmark = pytest.mark.long

MISSED = (0.0, 0.5, 1.0, 0.5)  # seconds of Bob in each recording


def system(name: str = "full", **made_of: Any) -> Written:
    known = {"kind": "bundle", "fingerprint": "f" * 64, "device": "CPU", "mlx": "0.31.0"}
    return Written(name, known | made_of, {})


def keep(folder: Path, run: str, missed: float, **made_of: Any) -> Path:
    """A run in which so many more seconds are missed in each recording."""
    sides = system("before", kind="baseline"), system(**made_of)
    more = [one + missed for one in MISSED]
    return write(folder / run / "evaluation.json", *sides, missed=more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keep(tmp_path, "run-1", 0.0)
    keep(tmp_path, "run-2", 0.0, samevoice="0.2.0")
    keep(tmp_path, "run-10", 0.9, samevoice="0.2.0", mlx="0.32.4")
    (tmp_path / "run-10" / "evaluation.html").write_text("the page")
    return tmp_path


def rows(page: str) -> list[list[str]]:
    """The cells of each run, the latest first."""
    found = re.findall(r'<tr>(<th scope="row">.*?)</tr>', page)
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in found)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


def test_each_run_stands_beside_the_one_before(folder: Path) -> None:
    page = write_history(folder).read_text(encoding="utf-8")
    assert [row[0] for row in rows(page)] == ["run-10", "run-2", "run-1"]
    assert "run-10/evaluation.html" in page
    assert "run-2/evaluation.json" in page
    last, second, first = ("".join(row) for row in rows(page))
    # 0.9 of nine seconds of speech in each recording.
    assert "+10.0 (+10.0, +10.0)" in last
    assert "mlx 0.31.0 -&gt; 0.32.4" in last
    assert "0.00 (0.00, 0.00)" in second
    assert "samevoice none -&gt; 0.2.0" in second
    assert "->" not in first
    assert "In the last run the DER of full on talks rose by 10.0 points." in page
    assert "Changed since the run before: mlx 0.31.0 -&gt; 0.32.4." in page
    assert 'class="verdict bad"' in page
    assert "before on talks" not in page  # a baseline's turns are those of an earlier run


def test_where_nothing_moved_it_says_so(folder: Path) -> None:
    keep(folder, "run-11", 0.9, samevoice="0.2.0", mlx="0.32.4")
    page = write_history(folder).read_text(encoding="utf-8")
    assert "Nothing moved in the last run." in page
    assert 'class="verdict good"' in page
    assert write_history(folder).read_text(encoding="utf-8") == page


def test_another_corpus_is_no_change(folder: Path) -> None:
    write(folder / "run-11" / "evaluation.json", system(), missed=MISSED[:3])
    page = write_history(folder).read_text(encoding="utf-8")
    assert "The last run of full on talks has another corpus than the run before." in page
    assert rows(page)[0][2] == ""


def test_what_has_no_der_is_left_out_and_named(folder: Path) -> None:
    blind = system(), system("other")
    write(folder / "blind" / "evaluation.json", *blind, missed=MISSED, referenced=False)
    edit(folder / "run-2" / "evaluation.json", lambda said: said.update(recordings=[]))
    page = write_history(folder).read_text(encoding="utf-8")
    assert "<strong>blind</strong> is left out: it has no references, and so no DER" in page
    assert "<strong>run-2</strong> is left out: " in page
    assert "it lacks or misstates" in page
    with pytest.raises(ReportError, match="can be drawn: it has no references"):
        write_history(folder / "blind")


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    write(tmp_path / name / "evaluation.json", system(name), missed=MISSED)
    page = write_history(tmp_path).read_text(encoding="utf-8")
    assert "<img" not in page
    assert "&lt;img" in page


def test_in_a_browser(folder: Path, browser: Any) -> None:
    from headless import DESK, OVERLAPS, PHONE, grave, logged, script, show

    page = write_history(folder).resolve().as_uri()
    for size in (DESK, PHONE):
        show(browser, page, size)
        assert script(browser, OVERLAPS) == []
        assert script(browser, "return document.documentElement.scrollWidth") <= size[0]
        assert grave(browser) == []
        assert logged(browser, "browser") == []
