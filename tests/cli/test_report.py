"""samevoice report, as it is typed, and the pages that parity and gallery leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import made_results
import pytest
from typed import ended as run

from samevoice.parity.result import write


@pytest.fixture(scope="module", autouse=True)
def drawn_once() -> Iterator[None]:
    with made_results.drawn_once():
        yield


@pytest.fixture
def green(tmp_path: Path) -> Path:
    write(tmp_path / "green" / "result.json", made_results.copied())
    return tmp_path / "green"


@pytest.fixture
def red(tmp_path: Path) -> Path:
    write(tmp_path / "red" / "result.json", made_results.missing())
    return tmp_path / "red"


def test_a_result_becomes_a_page(green: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", green / "result.json") == 0
    said = capsys.readouterr()
    assert said.out == f"report: {green / 'report.html'}\n"
    assert said.err == ""
    assert "This port may be trusted." in (green / "report.html").read_text()
    assert (green / "report.md").exists()
    assert (green / "junit.xml").exists()


def test_a_red_result_is_still_a_report(red: Path, tmp_path: Path) -> None:
    assert run("report", red, "--output", tmp_path / "page") == 0
    assert "This port may not be trusted." in (tmp_path / "page" / "report.html").read_text()
    assert not (red / "report.html").exists()


def test_folders_stand_for_their_results(
    green: Path, red: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report", green, red) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'comparison' / 'report.html'}\n"
    assert "1 of 2 ports" in (tmp_path / "comparison" / "report.html").read_text()


def test_github_gets_a_summary_and_an_error_a_failed_tap(
    green: Path,
    red: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert run("report", green, red, "--github-summary") == 0
    errors = [x for x in capsys.readouterr().out.splitlines() if x.startswith("::error")]
    verdict = made_results.missing().verdict
    assert len(errors) == len(verdict.failed) + len(verdict.task_reasons)
    assert summary.read_text().startswith("before\n### samevoice: 1 of 2 failed")


def test_outside_github_the_summary_is_refused(
    green: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert run("report", green, "--github-summary") == 2
    assert "GITHUB_STEP_SUMMARY is not set" in capsys.readouterr().err


def test_open_asks_the_browser(green: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    assert run("report", green, "--open") == 0
    assert opened == [(green / "report.html").as_uri()]


def test_no_browser_is_one_line(
    green: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert run("report", green, "--open") == 2
    assert "no browser was found here" in capsys.readouterr().err
    assert (green / "report.html").exists()


def test_the_gallery_is_drawn(green: Path, tmp_path: Path) -> None:
    bug = {"bug": "a bias dropped", "effect": "lost", "where": "lstm.1", "found": "lstm.1",
           "noise_ratio": 1240.0, "right": True}  # fmt: skip
    whole = {"schema": 1, "versions": {}, "findings": [bug]}
    (tmp_path / "gallery.json").write_text(json.dumps(whole))
    assert run("report", green, "--gallery", tmp_path / "gallery.json") == 0
    page = (green / "report.html").read_text()
    assert "a bias dropped" in page
    assert "1 of 1 bugs handled correctly" in page


@pytest.mark.parametrize(
    ("text", "said"),
    [("[", "is not JSON"), ('{"a": 1}', "holds no gallery"), (None, "cannot read")],
)
def test_a_gallery_that_is_none_is_one_line(
    text: str | None, said: str, green: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "gallery.json").write_text(text)
    assert run("report", green, "--gallery", tmp_path / "gallery.json") == 2
    found = capsys.readouterr()
    assert said in found.err
    assert found.err.count("\n") == 1


def test_the_index_links_the_pages(
    green: Path, red: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report", green) == 0
    assert run("report", "--index", tmp_path) == 0
    assert f"index: {tmp_path / 'index.html'}" in capsys.readouterr().out
    assert "green/report.html" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["report"],
        ["report", "/nowhere"],
        ["report", "--index", "/nowhere"],
        ["report", "--index", ".", "--output", "x"],
        ["report", "green", "--left-out", "nothing"],
    ],
    ids=str,
)
def test_bad_usage_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def hidden(module: str, *words: object) -> subprocess.CompletedProcess[str]:
    """The command on a machine that lacks a package."""
    script = f"import sys; sys.modules[{module!r}] = None; from samevoice.cli import main; main()"
    line = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_a_missing_extra_is_named(module: str, green: Path) -> None:
    done = hidden(module, "report", green)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'samevoice[parity]'" in done.stderr
    assert module in done.stderr


def test_parity_without_the_extra_still_gives_a_result(
    references: dict[str, Path], tmp_path: Path
) -> None:
    import samevoice

    samevoice.convert(references["full"], tmp_path / "full")
    plda = (tmp_path / "full" / "plda", "--source", references["full"], "--output", tmp_path / "r")
    done = hidden("jinja2", "parity", *plda)
    assert done.returncode == 0, done.stderr
    assert "no report: jinja2" in done.stdout
    assert "samevoice[parity]" in done.stdout
    assert (tmp_path / "r" / "result.json").exists()
    assert not (tmp_path / "r" / "report.html").exists()
    assert run("parity", *plda) == 0
    assert (tmp_path / "r" / "report.html").exists()


def test_help_stays_light() -> None:
    script = (
        "import sys; from samevoice.cli import app; import samevoice.cli.report; "
        "print([x for x in ('matplotlib', 'jinja2', 'mlx.core', 'torch') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
