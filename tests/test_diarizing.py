"""samevoice diarize as it is typed: what goes where, what is refused, what is left behind."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import subprocess
import sys
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_audio import RATE, noise, recording
from rich.console import Console
from typed import Answer, Run

import samevoice
from samevoice import cli, diarizing, hearing, terminal
from samevoice.errors import DiarizationError
from samevoice.models.diarization import pipeline
from samevoice.models.diarization.audio import open_audio
from samevoice.models.diarization.output import Diarization, Segment, Turns, read_rttm

ROOT = Path(__file__).resolve().parents[1]


class Told:
    """In place of the real pipeline: what it was asked for, and two made-up speakers."""

    made: list[tuple[Any, ...]]
    asked: list[dict[str, Any]]
    reference_only = False
    fault: Exception | None = None
    config: Mapping[str, Any]
    embedding_fingerprint = "f" * 64

    def __init__(self, model_path: Any, device: str, **chunks: Any) -> None:
        if chunks["chunk_duration"] == 0.01:
            raise DiarizationError("chunks of 0.01 s every 1 s are too short")
        self.fast = chunks.pop("fast")
        self.made.append((model_path, device, chunks))
        self.config = {"architecture": "SpeakerDiarization", "dtype": "float32"}

    def __call__(self, audio: Any, *, hook: Any, **counts: Any) -> Diarization:
        self.asked.append(counts)
        found = open_audio(audio)
        samples = 0
        for block in found.blocks():
            samples += len(block)
            hook("reading", None, file=found.uri, completed=samples / RATE, total=found.duration)
        hook("clustering", None, file=found.uri)
        if self.fault is not None:
            raise self.fault
        length = samples / RATE
        long, short = Segment(0.0, length), Segment(length / 2, length / 2 + 0.25)
        uri = found.uri
        return Diarization(
            uri,
            Turns(((long, "SPEAKER_00"), (short, "SPEAKER_01")), uri),
            Turns(((long, "SPEAKER_00"),), uri),
            np.array([[1.0, 0.0], [0.0, 1.0]]),
            length,
            {"reading": 0.1, "speaker_counting": 0.3},
            tuple(found.notes),
        )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    kind = type("Told", (Told,), {"made": [], "asked": []})
    monkeypatch.setattr(pipeline, "SpeakerDiarizationPipeline", kind)
    return kind


@pytest.fixture
def run(
    told: type[Told],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """``samevoice diarize`` in this process, in a folder with a bundle called full."""
    del told
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()

    def answer(words: str) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["diarize", *shlex.split(words)])
        said = capfd.readouterr()
        return Answer(int(stopped.value.code or 0), said.out, said.err)

    return answer


KEPT = " exists and is not a result of this kind: choose another path, or pass --overwrite"


def left(folder: Path) -> set[str]:
    """Every file below a folder, the hidden ones, too."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


# --- bad usage ----------------------------------------------------------------------------------

BAD_USAGE = {
    "": "Missing argument 'AUDIO...'",
    "a.wav": "name the model: --model BUNDLE",
    "a.wav --model none": "none: no such bundle; name the model",
    "a.wav --model full --num-speakers 0": "--num-speakers is 0: it must be from 1 to",
    "a.wav --model full --num-speakers -2": "--num-speakers is -2: it must be from 1 to",
    "a.wav --model full --min-speakers 0": "--min-speakers is 0: it must be from 1 to",
    "a.wav --model full --max-speakers -1": "--max-speakers is -1: it must be from 1 to",
    "a.wav --model full --num-speakers 99999999999999999999": "must be from 1 to 10000",
    "a.wav --model full --max-speakers 99999999999999999999": "must be from 1 to 10000",
    "a.wav --model full --min-speakers 3 --max-speakers 2": "3, more than --max-speakers, which",
    "a.wav --model full --num-speakers 2 --max-speakers 2": "leaves nothing to --min-speakers",
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
    "a.wav --model full --plot none/deep/a.svg --num-speakers 0": "--num-speakers is 0",
}


@pytest.mark.parametrize(("words", "said"), BAD_USAGE.items(), ids=list(BAD_USAGE))
def test_bad_usage_is_one_line_and_two(
    run: Run, told: type[Told], tmp_path: Path, words: str, said: str
) -> None:
    answer = run(words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.startswith("samevoice: ")
    assert answer.err.count("\n") == 1
    assert left(tmp_path) == set()
    assert told.asked == []


def test_without_a_model_it_says_how_to_get_one(run: Run) -> None:
    said = run("a.wav").err
    assert "convert pyannote/speaker-diarization-community-1" in said
    assert "hf auth login" in said
    assert "samevoice convert reference:full" in said
    assert "for parity only" in said


# --- where results go ---------------------------------------------------------------------------

RTTM = (
    "SPEAKER a 1 0.000 1.000 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
    "SPEAKER a 1 0.500 0.250 <NA> <NA> SPEAKER_01 <NA> <NA>\n"
)


def test_standard_output_holds_the_result_and_nothing_else(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    for words in ("a.wav --model full", "a.wav --model full --output -"):
        answer = run(words)
        assert (answer.code, answer.out) == (0, RTTM)
        assert answer.err == "a.wav  1.0 s, 2 speakers, 2 turns, real-time factor 0.400\n"
    assert left(tmp_path) == {"a.wav"}


def test_a_file_in_the_format_of_its_suffix(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    for name, start in (
        ("b.rttm", "SPEAKER a 1 "),
        ("b.json", '{\n  "uri": "a",\n'),
        ("b.srt", "1\n00:00:00,000 --> 00:00:01,000\nSPEAKER_00\n"),
        ("new/folder/b.vtt", "WEBVTT\n\n1\n00:00:00.000 --> "),
        ("b.txt", "SPEAKER a 1 "),
    ):
        answer = run(f"a.wav --model full --output {name}")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.splitlines() == [
            "a.wav  1.0 s, 2 speakers, 2 turns, real-time factor 0.400",
            f"  {name}",
        ]
        assert (tmp_path / name).read_text().startswith(start)
    assert run("a.wav --model full --output b.txt --format vtt").code == 0
    assert (tmp_path / "b.txt").read_text().startswith("WEBVTT")


def test_several_formats_go_into_a_folder(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    assert run("a.wav --model full --output out --format rttm,json,srt,vtt,rttm").code == 0
    assert left(tmp_path / "out") == {"a.rttm", "a.json", "a.srt", "a.vtt"}
    assert (tmp_path / "out/a.rttm").read_text() == RTTM


@pytest.mark.parametrize("output", ["out", "out/", "out.d/"])
def test_a_name_without_a_suffix_is_a_folder(run: Run, tmp_path: Path, output: str) -> None:
    recording(tmp_path / "a.wav")
    assert run(f"a.wav --model full --output {output}").code == 0
    assert (tmp_path / output / "a.rttm").read_text() == RTTM


def test_a_folder_means_its_recordings(run: Run, tmp_path: Path, told: type[Told]) -> None:
    for name in ("b.wav", "a.flac", "deep/down/c.MP3", ".hidden.wav", ".git/d.wav"):
        recording(tmp_path / "talks" / name, format=name[-4:].strip(".").upper())
    (tmp_path / "talks/notes.txt").write_text("no sound")
    os.mkfifo(tmp_path / "talks/pipe.wav")
    answer = run("talks --model full --output out")
    assert answer.code == 0
    assert left(tmp_path / "out") == {"a.rttm", "b.rttm", "c.rttm"}
    named = [line.split("  ")[0] for line in answer.out.splitlines() if "turns" in line]
    assert named == ["talks/a.flac", "talks/b.wav", "talks/deep/down/c.MP3"]
    assert answer.out.splitlines()[-1].startswith("3 recordings, 3.")
    assert len(told.made) == 1


def test_several_recordings_on_standard_output(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        recording(tmp_path / f"{name}.wav")
    answer = run("a.wav b.wav --model full")
    assert answer.out == RTTM + RTTM.replace(" a ", " b ")
    assert answer.err.count("\n") == 3


def test_standard_input(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = recording(tmp_path / "a.wav").read_bytes()
    stdin = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", stdin)
    answer = run("- --model full --plot a.svg")
    assert answer.code == 0, answer.err
    assert answer.out == RTTM.replace(" a ", " stdin ")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    answer = run("- --model full")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "samevoice: stdin is empty (0 bytes): is the recording complete?\n"


def test_standard_input_that_is_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert "which is a terminal" in run("- --model full").err


@pytest.mark.parametrize("name", ["two words.wav", "Ünïcødé 会議 🎙.wav", "-i.wav", "[red].wav"])
def test_any_file_name_makes_valid_rttm(run: Run, tmp_path: Path, name: str) -> None:
    recording(tmp_path / name)
    answer = run(f"--model full --output out -- {shlex.quote(name)}")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"{name}  1.0 s")
    path = tmp_path / "out" / f"{Path(name).stem}.rttm"
    ((uri, turns),) = read_rttm(path).items()
    assert uri == Path(name).stem.replace(" ", "_")
    assert len(turns) == 2


def test_what_is_there_is_replaced_and_never_a_recording(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "old.rttm").write_text(RTTM.replace("SPEAKER_00", "Ana"))
    assert run("a.wav --model full --output old.rttm").code == 0
    assert (tmp_path / "old.rttm").read_text() == RTTM
    before = (tmp_path / "a.wav").read_bytes()
    answer = run("a.wav --model full --output ./a.wav")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--output a.wav is a recording's name" in answer.err
    (tmp_path / "link.rttm").symlink_to("a.wav")
    answer = run("a.wav --model full --output link.rttm --overwrite")
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
        ("a.wav --output /proc/there/is/none", "/proc cannot be written to"),
        ("a.wav --output " + "x" * 300 + ".d/", "cannot be made: File name too long"),
    ],
)
def test_what_somebody_else_wrote_is_kept(
    run: Run, tmp_path: Path, told: type[Told], words: str, named: str
) -> None:
    for name in ("a.wav", "b.wav"):
        recording(tmp_path / name)
    (tmp_path / "out").mkdir()
    for name in ("config.json", "full/config.json", "letter", "out/a.json", "mine.svg"):
        (tmp_path / name).write_text('{"mine": "and nowhere else"}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    answer = run(words.replace("*.wav", "a.wav b.wav") + " --model full")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert named in answer.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert told.asked == []


def test_overwrite_gives_a_file_up(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "letter").write_text("Dear Ana")
    (tmp_path / "empty.rttm").touch()
    assert run("a.wav --model full --output letter --overwrite").code == 0
    assert (tmp_path / "letter").read_text() == RTTM
    assert run("a.wav --model full --output empty.rttm").code == 0


def test_a_second_run_replaces_what_the_first_wrote(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    line = "a.wav --model full --output out --format rttm,json,srt,vtt --embeddings --plot a.svg"
    assert [run(line).code for _ in range(2)] == [0, 0]


# --- what is asked of the pipeline --------------------------------------------------------------


def test_the_options_reach_the_pipeline(run: Run, tmp_path: Path, told: type[Told]) -> None:
    recording(tmp_path / "a.wav")
    run("a.wav --model full --min-speakers 2 --max-speakers 4 --device cpu --step 2.5")
    assert told.made == [(Path("full"), "cpu", {"chunk_duration": None, "step": 2.5})]
    assert told.asked == [{"num_speakers": None, "min_speakers": 2, "max_speakers": 4}]
    run("a.wav --model full --num-speakers 3 --chunk-duration 5")
    assert told.asked[1] == {"num_speakers": 3, "min_speakers": None, "max_speakers": None}
    assert told.made[1][2] == {"chunk_duration": 5.0, "step": None}


def test_fast_is_said_in_the_json_and_only_then(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    plain = json.loads(run("a.wav --model full --format json").out)
    fast = json.loads(run("a.wav --model full --format json --fast").out)
    assert "fast" not in plain["model"]
    assert fast["model"] == plain["model"] | {"fast": True}
    assert run("a.wav --model full --fast").out == RTTM


def test_one_speaker_at_a_time_and_no_short_turns(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    whole, short = RTTM.splitlines(keepends=True)
    del short
    for words in ("--exclusive", "--min-duration 0.3"):
        assert run(f"a.wav --model full {words}").out == whole
    assert run("a.wav --model full --min-duration 0.25").out == RTTM
    found = json.loads(run("a.wav --model full --min-duration 0.3 --format json").out)
    assert [one["label"] for one in found["speakers"]] == ["SPEAKER_00"]


def test_json_is_the_same_each_time_and_tells_more_where_asked(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    plain = run("a.wav --model full --format json --num-speakers 2").out
    assert plain == run("a.wav --model full --format json --num-speakers 2").out
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
    more = json.loads(run("a.wav --model full --format json --timing --embeddings").out)
    assert more["seconds"] == {"reading": 0.1, "speaker_counting": 0.3}
    assert more["speakers"][1]["embedding"] == [0.0, 1.0]


def test_times_by_stage(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording(tmp_path / "a.wav")
    expected = [
        "a.wav  1.0 s, 2 speakers, 2 turns, real-time factor 0.400",
        "  b.rttm",
        "  reading               0.10 s   25%",
        "  speaker counting      0.30 s   75%",
    ]
    assert run("a.wav --model full --output b.rttm --timing").out.splitlines() == expected
    assert run("a.wav --model full --output b.rttm").out.splitlines() == expected[:2]
    monkeypatch.setattr(diarizing, "LONG_RUN", 0.4)
    assert run("a.wav --model full --output b.rttm").out.splitlines() == expected


def test_known_voices_get_their_names(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    answer = run("a.wav --model full --speakers voices")
    assert answer.out == RTTM.replace("SPEAKER_01", "Anna_Maria")
    assert opened == [(Path("voices"), "f" * 64)]


def test_reference_weights_are_told_of_loudly(run: Run, tmp_path: Path, told: type[Told]) -> None:
    told.reference_only = True
    recording(tmp_path / "a.wav")
    answer = run("a.wav --model full --format json")
    first, *_ = answer.err.splitlines()
    assert first.startswith("warning")
    assert "means NOTHING" in first
    assert json.loads(answer.out)["model"]["reference_only"] is True


def test_what_is_odd_about_a_recording_is_noted(run: Run, tmp_path: Path) -> None:
    path = recording(tmp_path / "[b]a.wav", subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: 44 + RATE // 2])
    answer = run("'[b]a.wav' --model full --output out --format rttm,json")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "note  [b]a.wav claims 1.000 s and holds 0.250 s"
    assert "claims 1.000 s" in (tmp_path / "out/[b]a.json").read_text()


def test_the_picture(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav", noise(44_100, 2), 44_100)
    answer = run("a.wav --model full --output b.rttm --plot new/b.svg")
    assert answer.out.splitlines()[1:] == ["  b.rttm", "  new/b.svg"]
    ET.parse(tmp_path / "new/b.svg")


# --- what fails ---------------------------------------------------------------------------------


def test_one_bad_recording_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for name, said in (("none.wav", "no such file"), ("text.wav", "format not recognised")):
        answer = run(f"{name} --model full --output out")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith(f"samevoice: {name}")
        assert said in answer.err
        assert answer.err.count("\n") == 1
    assert left(tmp_path) == {"text.wav"}


def test_a_failed_file_does_not_stop_the_rest_and_is_named_at_the_end(
    run: Run, tmp_path: Path
) -> None:
    for name in ("a", "z"):
        recording(tmp_path / f"{name}.wav")
    (tmp_path / "empty.wav").touch()
    nan = noise(RATE)
    nan[8_000] = np.nan
    recording(tmp_path / "nan.wav", nan, subtype="FLOAT")
    answer = run("a.wav empty.wav nan.wav none.wav z.wav --model full --output out")
    assert answer.code == 2
    assert left(tmp_path / "out") == {"a.rttm", "z.rttm"}
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
        (RuntimeError("one\ntwo"), "a.wav: a fault of samevoice's own: RuntimeError: one two"),
    ],
)
def test_faults_do_not_stop_the_rest_either(
    run: Run, tmp_path: Path, told: type[Told], fault: Exception, said: str
) -> None:
    told.fault = fault
    recording(tmp_path / "a.wav")
    recording(tmp_path / "b.wav")
    answer = run("a.wav b.wav --model full --output out")
    assert answer.code == 2
    assert answer.err.splitlines()[0].startswith(said)
    assert answer.err.splitlines()[-1].endswith("2 of 2 recordings failed: a.wav, b.wav")
    told.fault = None


def test_a_failed_file_is_let_go_of_before_the_next(
    run: Run, tmp_path: Path, told: type[Told], monkeypatch: pytest.MonkeyPatch
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
    assert run("a.wav b.wav --model full --output out").err.count("in the middle") == 2


def test_an_output_that_cannot_be_written(run: Run, tmp_path: Path, told: type[Told]) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "file").write_text("mine")
    for words, said in (
        ("--output file/out", "is no folder"),
        ("--output file/b.rttm", "is no folder"),
        ("--output file --format rttm,srt", "is a file, but several are written"),
        ("--output b.rttm --plot file/a.svg", "is no folder"),
    ):
        answer = run(f"a.wav --model full {words}")
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert said in answer.err
    assert told.asked == []
    assert left(tmp_path) == {"a.wav", "file"}


def test_a_full_disk_is_one_line_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    answer = run("a.wav --model full --output out --format rttm,json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "samevoice: out/a.json cannot be written: No space left on device\n"
    assert left(tmp_path / "out") == {"a.rttm"}
    assert (tmp_path / "out/a.rttm").read_text() == RTTM


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_devices_are_written_to_as_they_are(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    assert run("a.wav --model full --output /dev/null").code == 0
    answer = run("a.wav --model full --output /dev/full")
    assert answer.code == 2
    assert answer.err == "samevoice: /dev/full cannot be written: No space left on device\n"


# --- the real thing, in a process of its own ----------------------------------------------------

# A pipeline in place of the real one, in another process.
FAKE = f"""
import signal, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
import samevoice.models
from samevoice.models.diarization import pipeline
from test_diarizing import Told

class Fake(Told):
    made, asked = [], []
    def __call__(self, audio, **options):
        found = super().__call__(audio, **options)
        if "stop" in found.uri:
            signal.raise_signal(signal.SIGINT)
        return found

pipeline.SpeakerDiarizationPipeline = Fake
from samevoice.cli import main
main(sys.argv[1:])
"""


def faked(*words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    (cwd / "full").mkdir(exist_ok=True)
    command = [sys.executable, "-c", FAKE, "diarize", *words, "--model", "full"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, cwd=cwd, text=True, check=False, timeout=60, **pipes)


def test_ctrl_c_stops_cleanly(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    recording(tmp_path / "stop.wav")
    done = faked("a.wav", "stop.wav", "--output", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "samevoice: stopped\n")
    assert left(tmp_path / "out") == {"a.rttm"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_that_is_full(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    recording(tmp_path / "b.wav")
    with open("/dev/full", "w") as full:
        done = faked("a.wav", "b.wav", cwd=tmp_path, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "samevoice: standard output cannot be written: No space left on device\n"


def test_standard_input_that_the_disk_has_no_room_for(tmp_path: Path) -> None:
    """The limit is on a file's size, so that the sentence on standard error still gets out."""
    sound = recording(tmp_path / "a.wav")
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    command = [sys.executable, "-c", small + FAKE, "diarize", "-", "--model", "full"]
    (tmp_path / "full").mkdir()
    with open(sound, "rb") as stdin:
        done = subprocess.run(
            command, cwd=tmp_path, stdin=stdin, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("samevoice: standard input cannot be kept in ")
    assert "File too large; name another folder in TMPDIR" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    read, write = os.pipe()
    os.close(read)
    try:
        done = faked("a.wav", cwd=tmp_path, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# Fails on the first connection, and tells at the end what was imported.
WATCH = """
import atexit, socket, sys

def refuse(*_, **__):
    sys.stderr.write("CONNECTED\\n")
    raise OSError("no connections here")

for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
HEAVY = {"torch", "torchaudio", "pyannote", "huggingface_hub", "matplotlib", "sklearn"}

def tell():
    print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules} & HEAVY),
          file=sys.stderr)

atexit.register(tell)
"""


def real(*words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    (cwd / "hook").mkdir(exist_ok=True)
    (cwd / "hook" / "sitecustomize.py").write_text(WATCH)
    settings = os.environ | {"PYTHONPATH": str(cwd / "hook"), "COLUMNS": "80"}
    command = [sys.executable, "-m", "samevoice", "diarize", *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, env=settings, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == code, done.stderr
    return done


def test_it_imports_neither_torch_nor_pyannote_and_opens_no_connection(
    narrow_bundle: Path, tmp_path: Path
) -> None:
    recording(tmp_path / "talk one.wav", noise(48_000, 2), 48_000)
    everything = "rttm,json,srt,vtt"
    words = ("talk one.wav", "--model", narrow_bundle, "--output", "out", "--format", everything)
    done = real(*words, "--plot", "out/a.svg", "--timing", cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "IMPORTED"
    assert "CONNECTED" not in done.stderr
    assert "means NOTHING" in done.stderr
    assert re.match(r"talk one\.wav  1\.0 s, \d+ speakers?, \d+ turns?, real-time", done.stdout)
    assert len(left(tmp_path / "out")) == 5
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


ODD = {
    "1 sample": noise(1),
    "399 samples": noise(399),
    "400 samples": noise(400),
    "159999 samples": noise(159_999),
    "160000 samples": noise(160_000),
    "160001 samples": noise(160_001),
    "silence": np.zeros(RATE, np.float32),
    "DC": np.full(RATE, 0.5, np.float32),
    "clipping": np.sign(noise(RATE)),
    "6 channels": noise(RATE, 6),
    "8 kHz": noise(8_000, 2),
    "48 kHz": noise(48_000),
}


def test_odd_recordings_all_have_a_result(
    narrow_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, samples in ODD.items():
        rate = int(name.split()[0]) * 1_000 if name.endswith("kHz") else RATE
        recording(tmp_path / "odd" / f"{name}.wav", samples, rate, subtype="FLOAT")
    words = [
        str(tmp_path / "odd"),
        "--model",
        str(narrow_bundle),
        "--output",
        str(tmp_path / "out"),
    ]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["diarize", *words, "--num-speakers", "5", "--format", "json"])
    said = capfd.readouterr()
    assert not stopped.value.code, said.err
    for name, samples in ODD.items():
        rate = int(name.split()[0]) * 1_000 if name.endswith("kHz") else RATE
        found = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert found["duration"] == pytest.approx(len(samples) / rate, abs=1e-3)
        assert len(found["speakers"]) <= 5


@pytest.mark.parametrize("kind", ["missing", "corrupt", "of another model"])
def test_bundles_that_are_none(narrow_bundle: Path, tmp_path: Path, kind: str) -> None:
    recording(tmp_path / "a.wav")
    model = tmp_path / "full"
    if kind == "of another model":
        model = narrow_bundle / "segmentation"
    if kind == "corrupt":
        import shutil

        shutil.copytree(narrow_bundle, model)
        weights = model / "embedding" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1_000])
    done = real("a.wav", "--model", model, "--output", "b.rttm", cwd=tmp_path, code=2)
    line, imported = done.stderr.splitlines()
    assert imported == "IMPORTED"
    assert line.startswith("samevoice: ")
    assert str(model) in line
    assert not (tmp_path / "b.rttm").exists()


def test_where_connections_are_made_the_test_would_see_them(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    code = "import socket, huggingface_hub; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CONNECTED" in done.stderr
    assert "IMPORTED huggingface_hub" in done.stderr


# --- progress -----------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a terminal of 80 columns."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(terminal, "stderr", lambda: console)
    return shown


def test_progress_tells_the_stage_and_how_far_it_is(screen: io.StringIO) -> None:
    with hearing.progress("2/3 [b]talk") as hook:
        hook("reading", None, file="talk", completed=75.0, total=7_200.0)
        hook("speaker_counting", np.zeros(3), file="talk")
        hook("reading", None, completed=5.0)
    shown = screen.getvalue()
    assert "2/3 [b]talk" in shown
    assert "0:05" in shown


def test_nothing_moves_where_nobody_looks(run: Run, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    assert run("a.wav --model full --output b.rttm").err == ""
