"""Where results go, what is kept, and what killed runs left beside them."""

from __future__ import annotations

import fcntl
import io
import os
import shlex
import sys
from pathlib import Path

import pytest
from made_audio import recording
from made_pipeline import RTTM, Told, left
from made_up import SEALED
from typed import Run

from samevoice import outputs
from samevoice.cli.diarizing import JOURNAL
from samevoice.models.diarization.output import read_rttm

KEPT = " exists and is not a result of this kind: choose another path, or pass --overwrite"


def test_standard_output_holds_the_result_and_nothing_else(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    for words in ("a.wav --model full", "a.wav --model full --output -"):
        answer = diarize(words)
        assert (answer.code, answer.out) == (0, RTTM)
        assert answer.err == "a.wav  1.0 s, 2 speakers, 2 turns, real-time factor 0.400\n"
    assert left(tmp_path) == {"a.wav"}


def test_a_file_in_the_format_of_its_suffix(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    for name, start in (
        ("b.rttm", "SPEAKER a 1 "),
        ("b.json", '{\n  "uri": "a",\n'),
        ("b.srt", "1\n00:00:00,000 --> 00:00:01,000\nSPEAKER_00\n"),
        ("new/folder/b.vtt", "WEBVTT\n\n1\n00:00:00.000 --> "),
        ("b.txt", "SPEAKER a 1 "),
    ):
        answer = diarize(f"a.wav --model full --output {name}")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.splitlines() == [
            "a.wav  1.0 s, 2 speakers, 2 turns, real-time factor 0.400",
            f"  {name}",
        ]
        assert (tmp_path / name).read_text().startswith(start)
    assert diarize("a.wav --model full --output b.txt --format vtt").code == 0
    assert (tmp_path / "b.txt").read_text().startswith("WEBVTT")


def test_several_formats_go_into_a_folder(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    assert diarize("a.wav --model full --output out --format rttm,json,srt,vtt,html,rttm").code == 0
    assert left(tmp_path / "out") == {"a.rttm", "a.json", "a.srt", "a.vtt", "a.html"}
    assert (tmp_path / "out/a.rttm").read_text() == RTTM


@pytest.mark.parametrize("output", ["out", "out/", "out.d/"])
def test_a_name_without_a_suffix_is_a_folder(diarize: Run, tmp_path: Path, output: str) -> None:
    recording(tmp_path / "a.wav")
    assert diarize(f"a.wav --model full --output {output}").code == 0
    assert (tmp_path / output / "a.rttm").read_text() == RTTM


def test_a_folder_means_its_recordings(diarize: Run, tmp_path: Path, told: type[Told]) -> None:
    for name in ("b.wav", "a.flac", "deep/down/c.MP3", ".hidden.wav", ".git/d.wav"):
        recording(tmp_path / "talks" / name, format=name[-4:].strip(".").upper())
    (tmp_path / "talks/notes.txt").write_text("no sound")
    os.mkfifo(tmp_path / "talks/pipe.wav")
    answer = diarize("talks --model full --output out")
    assert answer.code == 0
    assert left(tmp_path / "out") == {"a.rttm", "b.rttm", "c.rttm", JOURNAL}
    named = [line.split("  ")[0] for line in answer.out.splitlines() if "turns" in line]
    assert named == ["talks/a.flac", "talks/b.wav", "talks/deep/down/c.MP3"]
    assert answer.out.splitlines()[-1].startswith("3 recordings, 3.")
    assert len(told.made) == 1


def test_several_recordings_on_standard_output(diarize: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        recording(tmp_path / f"{name}.wav")
    answer = diarize("a.wav b.wav --model full")
    assert answer.out == RTTM + RTTM.replace(" a ", " b ")
    assert answer.err.count("\n") == 3


def test_standard_input(diarize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = recording(tmp_path / "a.wav").read_bytes()
    stdin = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", stdin)
    answer = diarize("- --model full --plot a.svg")
    assert answer.code == 0, answer.err
    assert answer.out == RTTM.replace(" a ", " stdin ")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    answer = diarize("- --model full")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "samevoice: stdin is empty (0 bytes): is the recording complete?\n"


def test_standard_input_that_is_a_terminal(diarize: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert "which is a terminal" in diarize("- --model full").err


@pytest.mark.parametrize("name", ["two words.wav", "Ünïcødé 会議 🎙.wav", "-i.wav", "[red].wav"])
def test_any_file_name_makes_valid_rttm(diarize: Run, tmp_path: Path, name: str) -> None:
    recording(tmp_path / name)
    answer = diarize(f"--model full --output out -- {shlex.quote(name)}")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"{name}  1.0 s")
    path = tmp_path / "out" / f"{Path(name).stem}.rttm"
    ((uri, turns),) = read_rttm(path).items()
    assert uri == Path(name).stem.replace(" ", "_")
    assert len(turns) == 2


def test_what_is_there_is_replaced_and_never_a_recording(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "old.rttm").write_text(RTTM.replace("SPEAKER_00", "Ana"))
    assert diarize("a.wav --model full --output old.rttm").code == 0
    assert (tmp_path / "old.rttm").read_text() == RTTM
    before = (tmp_path / "a.wav").read_bytes()
    answer = diarize("a.wav --model full --output ./a.wav")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--output a.wav is a recording's name" in answer.err
    (tmp_path / "link.rttm").symlink_to("a.wav")
    answer = diarize("a.wav --model full --output link.rttm --overwrite")
    assert "link.rttm is read here and would be overwritten" in answer.err
    assert (tmp_path / "a.wav").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--output *.wav", "a.wav is a recording's name: put recordings before --output"),
        ("a.wav --output *.wav --overwrite", "a.wav is a file, but several are written"),
        ("a.wav --output config.json", "config.json" + KEPT),
        ("a.wav --output letter", "letter" + KEPT),
        ("a.wav --output out --format rttm,json", "out/a.json" + KEPT),
        ("a.wav --output b.rttm --plot mine.svg", "mine.svg" + KEPT),
        ("a.wav --output full/config.json --overwrite", "full/config.json is read here"),
        ("a.wav --output b.svg --plot b.svg", "b.svg would be written twice"),
        (f"a.wav --output {SEALED}/there/is/none", f"{SEALED} cannot be written to"),
        ("a.wav --output " + "x" * 300 + ".d/", "cannot be made: File name too long"),
    ],
)
def test_what_somebody_else_wrote_is_kept(
    diarize: Run, tmp_path: Path, told: type[Told], words: str, named: str
) -> None:
    for name in ("a.wav", "b.wav"):
        recording(tmp_path / name)
    (tmp_path / "out").mkdir()
    for name in ("config.json", "full/config.json", "letter", "out/a.json", "mine.svg"):
        (tmp_path / name).write_text('{"mine": "and nowhere else"}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    answer = diarize(words.replace("*.wav", "a.wav b.wav") + " --model full")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert named in answer.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert told.asked == []


def test_overwrite_gives_a_file_up(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "letter").write_text("Dear Ana")
    (tmp_path / "empty.rttm").touch()
    assert diarize("a.wav --model full --output letter --overwrite").code == 0
    assert (tmp_path / "letter").read_text() == RTTM
    assert diarize("a.wav --model full --output empty.rttm").code == 0


def test_a_second_run_replaces_what_the_first_wrote(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    line = (
        "a.wav --model full --output out --format rttm,json,srt,vtt,html --embeddings --plot a.svg"
    )
    assert [diarize(line).code for _ in range(2)] == [0, 0]


# --- what killed runs left ---------------------------------------------------------------------

DEAD = 1 << 30  # no system gives such a number to a process


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    (tmp_path / f".samevoice-{DEAD}-0.partial").write_text("half")
    outputs.write({tmp_path / "a.rttm": "whole"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.rttm"]


def test_what_others_write_stays(tmp_path: Path) -> None:
    kept = [tmp_path / f".samevoice-{os.getppid()}-0.partial", tmp_path / ".samevoice-x.partial"]
    kept.append(tmp_path / f".samevoice-{DEAD}-1.partial")  # of another machine, perhaps
    for path in kept:
        path.write_text("more to come")
    with open(kept[-1]) as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        outputs.write({tmp_path / "a.rttm": "whole"})
    assert {path.name for path in tmp_path.iterdir()} == {"a.rttm", *(x.name for x in kept)}
