"""samevoice diarize over a folder: what is done is kept, and others share the work."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from made_audio import noise, recording
from typed import Answer, Run

from samevoice.cli.diarizing import JOURNAL

RATE = 16_000


@pytest.fixture
def archive(narrow: Path, typed: Run, tmp_path: Path) -> Run:
    """In a folder with a bundle called full and an archive of three recordings."""
    (tmp_path / "full").symlink_to(narrow)
    (tmp_path / "archive").mkdir()
    for k, name in enumerate("abc"):
        recording(tmp_path / "archive" / f"{name}.wav", noise(3 * RATE, seed=k))

    def answer(words: str, code: int = 0) -> Answer:
        found = typed(f"diarize archive --model full --output out {words}")
        assert found.code == code, found.err
        return found

    return answer


def results() -> dict[str, str]:
    return {path.name: path.read_text() for path in Path("out").glob("[!.]*")}


def test_what_is_done_is_not_done_again(archive: Run, ran: list[str]) -> None:
    first = archive("--format rttm,json")
    assert first.out.splitlines()[-1].startswith("3 recordings, 9.0 s in ")
    assert len(ran) == 3
    before = results()
    again = archive("--format rttm,json")
    assert len(ran) == 3
    assert again.out.splitlines()[:3] == [f"archive/{name}.wav  done before" for name in "abc"]
    assert again.out.splitlines()[-1].startswith("3 recordings (3 done before), 0.0 s in ")
    assert results() == before

    # Another recording of that name, a result that was changed or is gone, a line cut off.
    recording(Path("archive/a.wav"), noise(2 * RATE, seed=9))
    archive("--format rttm,json")
    assert len(ran) == 4
    Path("out/b.rttm").write_text(before["b.rttm"] + ";; by hand\n")
    archive("--format rttm,json --overwrite")
    assert len(ran) == 5
    Path("out/c.json").unlink()
    archive("--format rttm,json")
    assert len(ran) == 6
    journal = Path("out", JOURNAL)
    journal.write_text(journal.read_text()[:100])
    archive("--format rttm,json")
    assert len(ran) == 9
    archive("--format rttm,json")
    assert len(ran) == 9
    assert results()["c.json"] == before["c.json"]

    # Other options, another result.
    archive("--format rttm,json --fast")
    assert len(ran) == 12


def test_processes_give_what_one_gives(archive: Run, ran: list[str]) -> None:
    Path("archive/bad.wav").write_bytes(b"RIFF")
    here = archive("--format rttm,json,html", 2)
    assert len(ran) == 4
    before = results()
    shutil.rmtree("out")
    there = archive("--format rttm,json,html --workers 2", 2)
    assert len(ran) == 4  # the others ran elsewhere
    assert results() == before
    assert set(before) == {f"{name}.{kind}" for name in "abc" for kind in ("rttm", "json", "html")}
    assert here.err.splitlines()[-1] == there.err.splitlines()[-1]
    archive("--format rttm,json,html", 2)
    assert ran[4:] == ["archive/bad.wav"]
    lines = Path("out", JOURNAL).read_text().strip().splitlines()
    assert {json.loads(line)["recording"] for line in lines} == {
        f"archive/{name}.wav" for name in "abc"
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_on_a_terminal_each_line_stands_alone(archive: Run, workers: int) -> None:
    """The bars are gone while results are told, and say how far all are."""
    ours, theirs = pty.openpty()
    words = f"diarize archive --model full --output out --workers {workers}"
    command = [sys.executable, "-m", "samevoice", *words.split()]
    running = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # the end, as Linux tells it
        while piece := os.read(ours, 1 << 16):
            said += piece
    os.close(ours)
    assert running.wait() == 0
    for name in "abc":
        assert re.search(rb"(\n|\x1b\[2K)archive/%s.wav  3.0 s" % name.encode(), said)
    assert b"0/3 " in said
    assert b"2/3 " in said
    assert re.search(rb"(\n|\x1b\[2K)3 recordings, 9.0 s", said)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("- --workers 2", "standard input is read by one process"),
        ("a.wav --workers 600", "--workers is 600: it must be from 1 to 512"),
        ("a.wav --workers 2 --cluster local", "--workers does not go with --cluster"),
    ],
)
def test_what_cannot_be_is_one_line(diarize: Run, tmp_path: Path, words: str, why: str) -> None:
    recording(tmp_path / "a.wav")
    answer = diarize(f"{words} --model full")
    assert answer.code == 2
    assert why in answer.err
    assert len(answer.err.splitlines()) == 1
