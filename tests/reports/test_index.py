"""The index lists every result below a folder, also those that cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

import made_results
import pytest

from samevoice.parity.result import write
from samevoice.reports.index import write_index
from samevoice.reports.write import ReportError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "b" / "green" / "result.json", made_results.green())
    write(tmp_path / "a red one" / "result.json", made_results.red())
    write(tmp_path / "seg" / "result.json", made_results.green("segmentation"))
    (tmp_path / "seg" / "report.html").write_text("the report")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "result.json").write_text('{"passed": tr')
    return tmp_path


def test_everything_is_listed_with_verdicts_and_links(folder: Path) -> None:
    path = write_index(folder)
    assert path == folder / "index.html"
    page = path.read_text(encoding="utf-8")
    assert "2 of 4 results passed, 1 could not be read." in page
    links = re.findall(r'<th scope="row"><a href="([^"]*)">([^<]*)</a>', page)
    assert links == [
        ("a%20red%20one/result.json", "a red one"),
        ("b/green/result.json", "b/green"),
        ("seg/report.html", "seg"),
    ]
    for target, _ in links:
        assert (folder / target.replace("%20", " ")).exists()
    assert page.index(">embedding</h2>") < page.index(">segmentation</h2>")
    assert "✗ failed" in page
    assert "✓ passed" in page
    assert "resnet.pool" in page
    assert "<strong>cut/result.json</strong> could not be read." in page
    assert "was cut off" in page
    assert [x.name for x in folder.iterdir() if x.name.startswith(".")] == []


def test_figures_stand_in_the_columns_of_their_names(folder: Path) -> None:
    page = write_index(folder).read_text(encoding="utf-8")
    assert "Voices ranked alike" in page
    assert "Frames decided alike" in page
    assert "34 of 34" in page


def test_loosened_limits_are_seen(tmp_path: Path) -> None:
    write(tmp_path / "x" / "result.json", made_results.loosened())
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert "! passed with care" in page
    assert "cosine_min at the outputs: 0.5 instead of 0.999999" in page


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert "There is no result.json" in page
    assert "samevoice parity" in page


def test_the_same_folder_gives_the_same_page(folder: Path) -> None:
    first = write_index(folder).read_bytes()
    assert write_index(folder).read_bytes() == first


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="nowhere: no such folder"):
        write_index(tmp_path / "nowhere")


def test_what_was_left_out_is_said(folder: Path) -> None:
    page = write_index(folder, ["open:diarization: no <network>"]).read_text(encoding="utf-8")
    assert "Left out: open:diarization: no &lt;network&gt;" in page
    assert "Left out" not in write_index(folder).read_text(encoding="utf-8")
