"""What is printed of words from outside: a line of bounded length, of letters that can be shown."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import made_results
import pytest
from typed import ended

from samevoice.parity import result as results


def test_an_error_is_a_line_that_can_be_read_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert ended("judge", "b.npz", f"a.{'x' * 20_000}") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert len(line) <= 300
    assert line.startswith("samevoice: a.xxx")
    # What to do stands at the end.
    assert line.endswith("is neither .safetensors nor .npz: save the arrays as one of them")


def test_names_that_are_no_text_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = [made_results.tap("layer \udcff"), made_results.tap("output", lambda x: 2 * x)]
    results.write(tmp_path / "result.json", made_results.judged(taps))
    printed = io.BytesIO()
    # As standard output is in a terminal: strict, which pytest's is not.
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "utf-8", write_through=True))
    assert ended("gate", tmp_path / "result.json") == 1
    assert "layer ?" in printed.getvalue().decode()
