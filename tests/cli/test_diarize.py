"""samevoice diarize as it is typed: what is asked for, what is refused, what fails."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import re
import shlex
import weakref
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from made_audio import RATE, noise, recording
from made_pipeline import RTTM, Told, left
from rich.console import Console
from typed import Run

import samevoice
from samevoice.cli import diarize as module
from samevoice.cli import pipeline_options, terminal
from samevoice.cli.diarizing import JOURNAL
from samevoice.models.diarization.audio import open_audio
from samevoice.models.diarization.output import Diarization

# --- bad usage ----------------------------------------------------------------------------------

BAD_USAGE = {
    "": "Missing argument 'AUDIO...'",
    "a.wav --model none": "none: no such bundle, and not the name of a model",
    "a.wav --model full --num-speakers 0": "--num-speakers is 0: it must be from 1 to",
    "a.wav --model full --num-speakers -2": "--num-speakers is -2: it must be from 1 to",
    "a.wav --model full --min-speakers 0": "--min-speakers is 0: it must be from 1 to",
    "a.wav --model full --max-speakers -1": "--max-speakers is -1: it must be from 1 to",
    "a.wav --model full --num-speakers 99999999999999999999": "must be from 1 to 10000",
    "a.wav --model full --max-speakers 99999999999999999999": "must be from 1 to 10000",
    "a.wav --model full --min-speakers 3 --max-speakers 2": "3, more than --max-speakers, which",
    "a.wav --model full --num-speakers 2 --max-speakers 2": "does not go with --min-speakers",
    "a.wav --model full --num-speakers two": "Invalid value for '--num-speakers'",
    "a.wav --model full --min-duration -1": "--min-duration is -1: it must be 0 or more",
    "a.wav --model full --min-duration nan": "--min-duration is nan",
    "a.wav --model full --step 0": "--step is 0: it must be more than 0",
    "a.wav --model full --chunk-duration inf": "--chunk-duration is inf",
    "a.wav --model full --chunk-duration 2 --step 3": "--step is 3, more than --chunk-duration",
    "a.wav --model full --chunk-duration 0.01": "chunks of 0.01 s every 1 s are too short",
    "a.wav --model full --device tpu": "'tpu' is not one of 'auto', 'gpu', 'cpu'",
    "a.wav --model full --format mp3": "--format 'mp3' is not one of rttm, json, srt, vtt",
    "a.wav --model full --format ''": "--format is empty",
    "a.wav --model full --format srt --output b.json": "ends in .json, but --format says srt",
    "a.wav --model full --format srt,vtt": "standard output takes one format",
    "a.wav --model full --format srt,vtt --output b.srt": "names one file, but several",
    "a.wav b.wav --model full --format srt": "standard output takes one recording's srt",
    "a.wav b.wav --model full --output c.rttm": "names one file, but several are written",
    "a.wav a.flac --model full --output out": "a.wav and a.flac would both become a.rttm",
    "a.wav x/a.wav --model full": "a.wav and x/a.wav would both become a",
    "a.wav a.wav --model full --output out": "a.wav and a.wav would both become a.rttm",
    "'a b.wav' a_b.wav --model full": "a b.wav and a_b.wav would both become a_b",
    "'' --model full": "an argument is empty: is a variable unset?",
    "a.wav --model ''": "--model is empty: is a variable unset?",
    "a.wav --model full --output=": "--output is empty: is a variable unset?",
    "- - --model full": "standard input can be read once",
    "full --model full": "full holds no recordings (.wav",
    "a.wav b.wav --model full --output out --plot a.svg": "--plot draws one recording, not 2",
    "a.wav --model full --plot a.png": "--plot a.png must end in .svg",
    "a.wav --model full --embed-audio": "--embed-audio goes with --format html",
    "a.wav --model full --format html": "a page on standard output cannot say where its recording",
    "- --model full --output a.html": "- is no file that a page could play",
    "/dev/null --model full --output a.html": "/dev/null is no file that a page could play",
    "a.wav --model full --format html --output b.srt": "ends in .srt, but --format says html",
    "a.wav --model full --plot none/deep/a.svg --num-speakers 0": "--num-speakers is 0",
}


@pytest.mark.parametrize(("words", "said"), BAD_USAGE.items(), ids=list(BAD_USAGE))
def test_bad_usage_is_one_line_and_two(
    diarize: Run, told: type[Told], tmp_path: Path, words: str, said: str
) -> None:
    answer = diarize(words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.startswith("samevoice: ")
    assert answer.err.count("\n") == 1
    assert left(tmp_path) == set()
    assert told.asked == []


def test_nothing_is_fetched_for_a_recording_that_is_not_there(diarize: Run) -> None:
    assert diarize("a.wav").err == "samevoice: a.wav: no such file\n"


def test_a_model_that_is_not_there_is_named_with_what_to_do(diarize: Run) -> None:
    said = diarize("a.wav --model none").err
    assert "open:diarization needs no account" in said


# --- what is asked of the pipeline --------------------------------------------------------------


def test_the_options_reach_the_pipeline(diarize: Run, tmp_path: Path, told: type[Told]) -> None:
    recording(tmp_path / "a.wav")
    diarize("a.wav --model full --min-speakers 2 --max-speakers 4 --device cpu --step 2.5")
    assert told.made == [(Path("full"), "cpu", {"chunk_duration": None, "step": 2.5})]
    assert told.asked == [{"num_speakers": None, "min_speakers": 2, "max_speakers": 4}]
    diarize("a.wav --model full --num-speakers 3 --chunk-duration 5")
    assert told.asked[1] == {"num_speakers": 3, "min_speakers": None, "max_speakers": None}
    assert told.made[1][2] == {"chunk_duration": 5.0, "step": None}


def test_fast_is_said_in_the_json_and_only_then(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    plain = json.loads(diarize("a.wav --model full --format json").out)
    fast = json.loads(diarize("a.wav --model full --format json --fast").out)
    assert "fast" not in plain["model"]
    assert fast["model"] == plain["model"] | {"fast": True}
    assert diarize("a.wav --model full --fast").out == RTTM


def test_one_speaker_at_a_time_and_no_short_turns(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    whole, short = RTTM.splitlines(keepends=True)
    del short
    for words in ("--exclusive", "--min-duration 0.3"):
        assert diarize(f"a.wav --model full {words}").out == whole
    assert diarize("a.wav --model full --min-duration 0.25").out == RTTM
    found = json.loads(diarize("a.wav --model full --min-duration 0.3 --format json").out)
    assert [one["label"] for one in found["speakers"]] == ["SPEAKER_00"]


def test_json_is_the_same_each_time_and_tells_more_where_asked(
    diarize: Run, tmp_path: Path
) -> None:
    recording(tmp_path / "a.wav")
    plain = diarize("a.wav --model full --format json --num-speakers 2").out
    assert plain == diarize("a.wav --model full --format json --num-speakers 2").out
    found = json.loads(plain)
    assert found["model"] == {
        "samevoice": samevoice.__version__,
        "architecture": "SpeakerDiarization",
        "dtype": "float32",
        "embedding": "f" * 64,
        "num_speakers": 2,
    }
    assert "seconds" not in found
    assert "embedding" not in found["speakers"][0]
    more = json.loads(diarize("a.wav --model full --format json --timing --embeddings").out)
    assert more["seconds"] == {"reading": 0.1, "speaker_counting": 0.3}
    assert more["speakers"][1]["embedding"] == [0.0, 1.0]


def test_times_by_stage(diarize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording(tmp_path / "a.wav")
    expected = [
        "a.wav  1.0 s, 2 speakers, 2 turns, real-time factor 0.400",
        "  b.rttm",
        "  reading               0.10 s   25%",
        "  speaker counting      0.30 s   75%",
    ]
    assert diarize("a.wav --model full --output b.rttm --timing").out.splitlines() == expected
    assert diarize("a.wav --model full --output b.rttm").out.splitlines() == expected[:2]
    monkeypatch.setattr(module, "LONG_RUN", 0.4)
    assert diarize("a.wav --model full --output b.rttm").out.splitlines() == expected


def test_known_voices_get_their_names(
    diarize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speakers: Any = pytest.importorskip("samevoice.models.diarization.speakers")
    opened = []

    class Known:
        def named(self, result: Diarization) -> Diarization:
            return result.renamed({"SPEAKER_01": "Anna Maria"})

    def found(path: Path, fingerprint: str) -> Known:
        opened.append((path, fingerprint))
        return Known()

    monkeypatch.setattr(speakers.Database, "open", found)
    recording(tmp_path / "a.wav")
    answer = diarize("a.wav --model full --speakers voices")
    assert answer.out == RTTM.replace("SPEAKER_01", "Anna_Maria")
    assert opened == [(Path("voices"), "f" * 64)]


def test_reference_weights_are_told_of_loudly(
    diarize: Run, tmp_path: Path, told: type[Told]
) -> None:
    told.reference_only = True
    recording(tmp_path / "a.wav")
    answer = diarize("a.wav --model full --format json")
    first, *_ = answer.err.splitlines()
    assert first.startswith("warning")
    assert "means NOTHING" in first
    assert json.loads(answer.out)["model"]["reference_only"] is True


def test_what_is_odd_about_a_recording_is_noted(diarize: Run, tmp_path: Path) -> None:
    path = recording(tmp_path / "[b]a.wav", subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: 44 + RATE // 2])
    answer = diarize("'[b]a.wav' --model full --output out --format rttm,json")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "note  [b]a.wav claims 1.000 s and holds 0.250 s"
    assert "claims 1.000 s" in (tmp_path / "out/[b]a.json").read_text()


def test_the_picture(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav", noise(44_100, 2), 44_100)
    answer = diarize("a.wav --model full --output b.rttm --plot new/b.svg")
    assert answer.out.splitlines()[1:] == ["  b.rttm", "  new/b.svg"]
    ET.parse(tmp_path / "new/b.svg")


@pytest.mark.parametrize("name", ["talk.wav", "a:b #<1>'?%.flac"])
def test_a_page_plays_the_recording_from_its_place(diarize: Run, tmp_path: Path, name: str) -> None:
    recording(tmp_path / "talks" / name)
    given = shlex.quote(f"talks/{name}")
    for words in ("", "--overwrite", "--exclusive"):  # its own page may be written again
        answer = diarize(f"{given} --model full --output new/page.html {words}")
        assert (answer.code, answer.out.splitlines()[1]) == (0, "  new/page.html")
        page = (tmp_path / "new/page.html").read_text()
        (source,) = re.findall(r'<audio [^>]*src="([^"]*)"', page)
        assert (tmp_path / "new" / unquote(source)).samefile(tmp_path / "talks" / name)
        assert page.count("<tr><td>") == (1 if words == "--exclusive" else 2)


def test_a_page_holds_the_recording_where_asked(
    diarize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = recording(tmp_path / "a.wav").read_bytes()
    assert diarize("a.wav --model full --output out --format html,srt --embed-audio").code == 0
    pages = [(tmp_path / "out/a.html").read_text()]
    pages.append(diarize("a.wav --model full --format html --embed-audio").out)
    for page in pages:
        (held,) = re.findall(r'src="data:audio/wav;base64,([^"]*)"', page)
        assert base64.b64decode(held) == sound
    monkeypatch.setattr("samevoice.models.diarization.page.LARGEST_INSIDE", 30_000)
    answer = diarize("a.wav --model full --output b.html --embed-audio")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "and --embed-audio takes up to 0: leave it out" in answer.err
    assert not (tmp_path / "b.html").exists()


# --- what fails ---------------------------------------------------------------------------------


def test_one_bad_recording_is_one_line(diarize: Run, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for name, said in (("none.wav", "no such file"), ("text.wav", "format not recognised")):
        answer = diarize(f"{name} --model full --output out")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith(f"samevoice: {name}")
        assert said in answer.err
        assert answer.err.count("\n") == 1
    assert left(tmp_path) == {"text.wav"}


def test_a_failed_file_does_not_stop_the_rest_and_is_named_at_the_end(
    diarize: Run, tmp_path: Path
) -> None:
    for name in ("a", "z"):
        recording(tmp_path / f"{name}.wav")
    (tmp_path / "empty.wav").touch()
    nan = noise(RATE)
    nan[8_000] = np.nan
    recording(tmp_path / "nan.wav", nan, subtype="FLOAT")
    answer = diarize("a.wav empty.wav nan.wav none.wav z.wav --model full --output out")
    assert answer.code == 2
    assert left(tmp_path / "out") == {"a.rttm", "z.rttm", JOURNAL}
    assert answer.err.splitlines() == [
        "empty.wav is empty (0 bytes): is the recording complete?",
        "nan.wav holds NaN at 0.500 s: mend it, or cut that part out",
        "none.wav: no such file",
        "samevoice: 3 of 5 recordings failed: empty.wav, nan.wav, none.wav",
    ]
    assert answer.out.splitlines()[-1].startswith("2 recordings, 2.0 s in ")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (MemoryError(), "a.wav: there is not enough memory: cut the recording into pieces"),
        (RuntimeError("one\ntwo"), "a.wav: an internal error of samevoice: RuntimeError: one two"),
    ],
)
def test_faults_do_not_stop_the_rest_either(
    diarize: Run, tmp_path: Path, told: type[Told], fault: Exception, said: str
) -> None:
    told.fault = fault
    recording(tmp_path / "a.wav")
    recording(tmp_path / "b.wav")
    answer = diarize("a.wav b.wav --model full --output out")
    assert answer.code == 2
    assert answer.err.splitlines()[0].startswith(said)
    assert answer.err.splitlines()[-1].endswith("2 of 2 recordings failed: a.wav, b.wav")
    told.fault = None


def test_a_failed_file_is_let_go_of_before_the_next(
    diarize: Run, tmp_path: Path, told: type[Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ones: list[weakref.ref[Any]] = []

    def failing(self: Told, audio: Any, **_: Any) -> Diarization:
        del self
        assert [one for one in open_ones if one() is not None] == []
        blocks = open_audio(audio).blocks(100)
        open_ones.append(weakref.ref(blocks))
        next(blocks)
        raise RuntimeError("in the middle")

    monkeypatch.setattr(told, "__call__", failing)
    for name in ("a.wav", "b.wav"):
        recording(tmp_path / name)
    assert diarize("a.wav b.wav --model full --output out").err.count("in the middle") == 2


def test_an_output_that_cannot_be_written(diarize: Run, tmp_path: Path, told: type[Told]) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "file").write_text("mine")
    for words, said in (
        ("--output file/out", "is not a folder"),
        ("--output file/b.rttm", "is not a folder"),
        ("--output file --format rttm,srt", "is a file, but several are written"),
        ("--output b.rttm --plot file/a.svg", "is not a folder"),
    ):
        answer = diarize(f"a.wav --model full {words}")
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert said in answer.err
    assert told.asked == []
    assert left(tmp_path) == {"a.wav", "file"}


def test_a_full_disk_is_one_line_and_leaves_nothing(
    diarize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.rttm").write_text(RTTM)
    syncs = []

    def full(file: int) -> None:
        syncs.append(file)
        if len(syncs) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    answer = diarize("a.wav --model full --output out --format rttm,json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "samevoice: out/a.json cannot be written: No space left on device\n"
    assert left(tmp_path / "out") == {"a.rttm"}
    assert (tmp_path / "out/a.rttm").read_text() == RTTM


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_devices_are_written_to_as_they_are(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    assert diarize("a.wav --model full --output /dev/null").code == 0
    answer = diarize("a.wav --model full --output /dev/full")
    assert answer.code == 2
    assert answer.err == "samevoice: /dev/full cannot be written: No space left on device\n"


# --- progress -----------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a terminal of 80 columns."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(terminal, "stderr", lambda: console)
    return shown


def test_progress_tells_the_stage_and_how_far_it_is(screen: io.StringIO) -> None:
    with pipeline_options.progress("2/3 [b]talk") as hook:
        hook("reading", None, file="talk", completed=75.0, total=7_200.0)
        hook("speaker_counting", np.zeros(3), file="talk")
        hook("reading", None, completed=5.0)
    shown = screen.getvalue()
    assert "2/3 [b]talk" in shown
    assert "0:05" in shown


def test_nothing_moves_where_nobody_looks(diarize: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    assert diarize("a.wav --model full --output b.rttm").err == ""
