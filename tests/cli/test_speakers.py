"""samevoice speakers as it is typed; who speaks is made up, but for the last test."""

from __future__ import annotations

import json
import shlex
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import typer
from typed import Answer, Run

from samevoice import cli
from samevoice.cli import pipeline_options, speakers
from samevoice.converters import cached
from samevoice.errors import SamevoiceError
from samevoice.models.diarization.output import Diarization, Segment, Turns

EAST, NORTH, UP, WEST = "1 0 0", "0 1 0", "0 0 1", "-1 0.1 0"
EASTISH = "1 0 0.05"


class Pipeline:
    """Recordings are text files: a line for each voice, its seconds and where it points."""

    fingerprint: ClassVar[str] = "a" * 64
    made_up: ClassVar[bool] = False
    asked: ClassVar[list[str]] = []

    def __init__(self, model: Path, device: str, **chunks: float | None) -> None:
        self.asked.append(device)

    @property
    def embedding_fingerprint(self) -> str:
        return self.fingerprint

    @property
    def reference_only(self) -> bool:
        return self.made_up

    def __call__(self, path: Path, hook: Any) -> Diarization:
        self.asked.append(path.name)
        if not path.is_file():
            raise SamevoiceError(f"{path}: no such file")
        lines = [line.split() for line in path.read_text().splitlines()]
        turns, start = [], 0.0
        for number, (seconds, *_) in enumerate(lines):
            turns.append((Segment(start, start + float(seconds)), f"SPEAKER_{number:02d}"))
            start += float(seconds)
        hook("reading", None, file=path.stem, total=start, completed=start / 2)
        hook("clustering", None, file=path.stem)
        voices = np.array([[float(x) for x in line[1:]] for line in lines]).reshape(-1, 3)
        who = Turns(tuple(turns), path.stem)
        return Diarization(path.stem, who, who, voices, start)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``samevoice speakers`` in an empty folder that has a bundle, ``full``, and is home."""
    module: Any = types.ModuleType("pipeline")
    module.SpeakerDiarizationPipeline = Pipeline
    monkeypatch.setitem(sys.modules, "samevoice.models.diarization.pipeline", module)
    monkeypatch.setattr(Pipeline, "asked", [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("SAMEVOICE_SPEAKERS", "db")
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "full").mkdir()

    def answer(*words: str) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["speakers", *words])
        said = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), said.out, said.err)

    return answer


def record(name: str, *voices: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(voices))
    return name


def enroll(run: Run, name: str, *recordings: str) -> None:
    assert run("enroll", name, *recordings, "--model", "full").code == 0


def refused(answer: Answer) -> str:
    """The one line of an answer that is nothing else."""
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    return answer.err.removeprefix("samevoice: ").rstrip()


# --- enroll -------------------------------------------------------------------------------------


def test_enrolling_says_what_was_heard(run: Run) -> None:
    recordings = [record("a.wav", f"12 {EAST}"), record("b.wav", f"27 {EASTISH}", f"3 {NORTH}")]
    answer = run("enroll", "Ana María", *recordings, "--model", "full", "--device", "cpu")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[:3] == [
        "a.wav  12.0 s of speech",
        "b.wav  27.0 s of speech, 90% of the speech",
        "Ana María: 2 recordings, 39.0 s of speech; 1 speaker known",
    ]
    assert Pipeline.asked == ["cpu", "a.wav", "b.wav"]


def test_a_folder_is_all_its_recordings(run: Run) -> None:
    for name in ("ana/b.wav", "ana/more/a.flac", "ana/.hidden/c.wav", "ana/notes.txt"):
        record(name, f"5 {EAST}" if "b" in name else f"5 {EASTISH}")
    answer = run("enroll", "Ana", "ana", "ana/b.wav", "--model", "full")
    assert answer.out.splitlines()[2] == "Ana: 2 recordings, 10.0 s of speech; 1 speaker known"


def test_a_second_voice_must_not_speak_much(run: Run) -> None:
    mixed = record("mixed.wav", f"6 {NORTH}", f"14 {EAST}")
    said = refused(run("enroll", "Ana", record("a.wav", f"9 {EAST}"), mixed, "--model", "full"))
    assert said == (
        "mixed.wav: 2 voices speak, the first two 70% and 30% of the speech: give a recording of "
        "one, or --main-speaker to take the first"
    )
    assert not Path("db").exists(), "all recordings, or none"
    assert run("enroll", "Ana", mixed, "--main-speaker", "--model", "full").code == 0
    assert run("identify", record("e.wav", f"9 {EAST}"), "--model", "full").out.count("Ana") == 1
    some = record("some.wav", f"2 {NORTH}", f"8 {EASTISH}")
    assert run("enroll", "Ana", some, "--model", "full").code == 0, "20 % are not too much"


@pytest.mark.parametrize(
    ("voices", "said"),
    [
        ((), "a.wav: nobody speaks in it"),
        ((f"0.9 {EAST}",), "a.wav: 0.9 s of one voice alone is too little to know it by"),
        (("9 0 0 0",), "a.wav: 9.0 s of one voice alone is too little to know it by"),
        (("9 nan 0 0",), "a.wav: 9.0 s of one voice alone is too little to know it by"),
    ],
)
def test_recordings_that_tell_too_little(run: Run, voices: tuple[str, ...], said: str) -> None:
    answer = run("enroll", "Ana", record("a.wav", *voices), "--model", "full")
    assert refused(answer) == said
    assert not Path("db").exists()


def test_doubts_are_told(run: Run) -> None:
    enroll(run, "Bob", record("bob.wav", f"9 {NORTH}"))
    odd = record("odd.wav", "9 0.3 1 0")
    answer = run("enroll", "Ana", record("a.wav", f"9 {EAST}"), odd, "--model", "full")
    assert answer.code == 0
    notes = [line for line in answer.out.splitlines() if line.startswith("note")]
    assert notes == [
        "note  a.wav is 0.71 from the other recordings of Ana, beyond the threshold of 0.50",
        "note  odd.wav is 0.71 from the other recordings of Ana, beyond the threshold of 0.50",
        "note  odd.wav is 0.04 from Bob, who is known, too",
    ]


def test_made_up_weights_are_told_loudly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "made_up", True)
    answer = run("enroll", "Ana", record("a.wav", f"9 {EAST}"), "--model", "full")
    assert answer.code == 0
    assert pipeline_options.REFERENCE_ONLY in " ".join(answer.err.split())


def test_without_a_model_the_open_one_is_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    audio, asked = record("a.wav", f"9 {EAST}"), []

    def bundle_of(word: str, announce: Callable[[str], None]) -> Path:
        asked.append(word)
        announce(f"fetching {word}, 81 MB, once")
        return Path("full")

    monkeypatch.setattr(cached, "bundle_of", bundle_of)
    for command in (["enroll", "Ana"], ["identify"]):
        answer = run(*command, audio)
        assert answer.code == 0
        assert "fetching  open:diarization, 81 MB, once" in answer.err
    assert asked == ["open:diarization"] * 2


@pytest.mark.parametrize("command", [["enroll", "Ana"], ["identify"]])
def test_a_model_that_is_not_there(run: Run, command: list[str]) -> None:
    audio = record("a.wav", f"9 {EAST}")
    run("enroll", "Bob", audio, "--model", "full")
    Pipeline.asked.clear()
    assert refused(run(*command, audio, "--model", "none")).startswith("none: no such bundle, and")
    assert Pipeline.asked == []


def test_nothing_is_fetched_without_a_database_or_a_recording(run: Run) -> None:
    audio = record("a.wav", f"9 {EAST}")
    assert refused(run("identify", audio)).startswith("db holds no speaker database")
    assert refused(run("enroll", "Ana", "b.wav")) == "b.wav: no such file"


def test_a_name_is_checked_before_the_work(run: Run) -> None:
    audio = record("a.wav", f"9 {EAST}")
    said = refused(run("enroll", "unknown", audio, "--model", "full"))
    assert said == "'unknown' is what voices are called that nobody enrolled"
    assert "control character U+0007" in refused(run("enroll", "a\ab", audio, "--model", "full"))
    assert Pipeline.asked == []


def test_another_model_is_refused_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = record("a.wav", f"9 {EAST}")
    enroll(run, "Ana", audio)
    monkeypatch.setattr(Pipeline, "fingerprint", "b" * 64)
    monkeypatch.setattr(Pipeline, "asked", [])
    for command in (["enroll", "Ana"], ["identify"], ["calibrate"]):
        words = ["Ana=a.wav"] if command == ["calibrate"] else [audio]
        said = refused(run(*command, *words, "--model", "full"))
        assert "db holds voices of embedding model aaaaaaaaaaaa, and this is bbbbbbbbbbbb" in said
    assert Pipeline.asked == ["auto"] * 3
    assert run("list").code == 0


# --- list and remove ----------------------------------------------------------------------------


def test_the_list_fits_the_terminal(run: Run) -> None:
    enroll(run, "Ana", record("a.wav", f"9 {EAST}"), record("b.wav", f"9.5 {EASTISH}"))
    enroll(run, "名前" * 30, record("a very long folder/" * 6 + "c.wav", f"1234 {NORTH}"))
    answer = run("list")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["name", "recordings", "speech", "from"]
    assert lines[1].split() == ["Ana", "2", "18.5", "s", "a.wav", "and", "1", "more"]
    from rich.cells import cell_len

    assert max(map(cell_len, lines[:-1])) <= 80
    assert "1234.0 s" in answer.out
    assert lines[-1].startswith("threshold 0.500, the default; samevoice speakers calibrate")


def test_the_list_for_scripts(run: Run) -> None:
    enroll(run, "Ana", record("ä.wav", f"9 {EAST}"))
    found = json.loads(run("list", "--json").out)
    assert found == {
        "path": str(Path("db").resolve()),
        "fingerprint": "a" * 64,
        "threshold": 0.5,
        "calibration": None,
        "speakers": [
            {"name": "Ana", "seconds": 9.0, "recordings": [{"source": "ä.wav", "seconds": 9.0}]}
        ],
    }


def test_removing(run: Run) -> None:
    enroll(run, "Ana", record("a.wav", f"9 {EAST}"))
    assert run("remove", " Ana ").out == "Ana: removed, with 1 recording, 9.0 s of speech\n"
    assert run("list").out.startswith("nobody is known yet\n")
    assert "'Ana' is not in" in refused(run("remove", "Ana"))


def test_where_the_voices_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = record("a.wav", f"9 {EAST}")
    run("enroll", "Ana", audio, "--model", "full", "--db", "there")
    assert Path("there/speakers.json").is_file()
    monkeypatch.delenv("SAMEVOICE_SPEAKERS")
    enroll(run, "Ana", audio)
    assert Path("home/.local/share/samevoice/speakers/speakers.json").is_file()
    said = refused(run("list", "--db", "nowhere"))
    assert said.endswith("nowhere holds no speaker database: samevoice speakers enroll makes one")


# --- identify -----------------------------------------------------------------------------------


def test_identifying(run: Run) -> None:
    enroll(run, "Ana", record("a.wav", f"9 {EAST}"))
    enroll(run, "Bob", record("b.wav", f"9 {NORTH}"))
    meeting = record("my meeting.wav", f"3 {UP}", "20 1 0.75 0", f"2 {WEST}", "7 0 0 0")
    answer = run("identify", meeting, "--model", "full")
    assert (answer.code, answer.err) == (0, "")
    assert [line.split() for line in answer.out.splitlines()] == [
        ["my", "meeting.wav"],
        ["voice", "speech", "name", "distance", "next"],
        ["SPEAKER_00", "3.0", "s", "unknown", "Ana", "1.000"],
        ["SPEAKER_01", "20.0", "s", "Ana", "0.200", "Bob", "0.400"],
        ["SPEAKER_02", "2.0", "s", "unknown", "Bob", "0.900"],
        ["SPEAKER_03", "7.0", "s", "unknown"],
    ]


def test_identifying_for_scripts(run: Run) -> None:
    enroll(run, "Ana", record("a.wav", f"9 {EAST}"))
    voices = record("m.wav", f"3 {EAST}", "4 0 0 0")
    answer = run("identify", voices, record("silence.wav"), "--model", "full", "--json")
    first, second = json.loads(answer.out)
    assert (first["audio"], first["duration"]) == ("m.wav", 7.0)
    assert first["voices"][0] == {
        "label": "SPEAKER_00",
        "seconds": 3.0,
        "name": "Ana",
        "distance": 0.0,
        "nearest": "Ana",
        "runner_up": None,
        "runner_up_distance": None,
    }
    assert (first["voices"][1]["name"], first["voices"][1]["distance"]) == (None, None)
    assert second["voices"] == []
    assert "nobody speaks" in run("identify", "silence.wav", "--model", "full").out


def test_a_recording_that_fails_does_not_stop_the_rest(run: Run) -> None:
    enroll(run, "Ana", record("a.wav", f"9 {EAST}"))
    answer = run("identify", "none.wav", "a.wav", "--model", "full")
    assert answer.code == 2
    assert "Ana" in answer.out
    assert answer.err.splitlines() == [
        "none.wav: no such file",
        "samevoice: 1 of 2 recordings failed: none.wav",
    ]
    assert refused(run("identify", "none.wav", "--model", "full")) == "none.wav: no such file"


def test_identifying_needs_a_database(run: Run) -> None:
    said = refused(run("identify", record("a.wav", f"9 {EAST}"), "--model", "full"))
    assert "db holds no speaker database" in said


# --- calibrate ----------------------------------------------------------------------------------


def angle(degrees: float) -> str:
    x = np.radians(degrees)
    return f"9 {np.cos(x)} {np.sin(x)} 0"


def test_calibrating_on_what_is_enrolled(run: Run) -> None:
    enroll(run, "Ana", record("a.wav", angle(0)), record("b.wav", angle(20)))
    enroll(run, "Bob", record("c.wav", angle(90)), record("d.wav", angle(110)))
    answer = run("calibrate")
    assert answer.out.splitlines()[:2] == [
        "threshold 0.443 (before: 0.500), calibrated on 4 enrolled recordings of 2 speakers: 0.0% "
        "errors",
        "  4 distances within speakers, 4 between them",
    ]
    assert run("list").out.splitlines()[-1].startswith("threshold 0.443, calibrated on 4 enrolled")
    assert json.loads(run("list", "--json").out)["calibration"]["error_rate"] == 0


@pytest.mark.parametrize("given", ["folders", "pairs"])
def test_calibrating_on_recordings(run: Run, given: str) -> None:
    pairs = {"Ana": (0, 20), "Bob": (90, 110), "Eve": (200,)}
    words = []
    for name, angles in pairs.items():
        for number, degrees in enumerate(angles):
            path = record(f"them/{name}/{number}.wav", angle(degrees))
            words.append(f"{name}={path}")
    answer = run("calibrate", *(["them"] if given == "folders" else words), "--model", "full")
    assert (answer.code, answer.err) == (0, "")
    assert "calibrated on 5 recordings of 3 speakers: 0.0% errors" in answer.out
    # The voices themselves are not kept.
    assert run("list").out.startswith("nobody is known yet\nthreshold 0.443")


def test_too_few_recordings(run: Run) -> None:
    enroll(run, "Ana", record("a.wav", angle(0)), record("b.wav", angle(20)))
    said = "speakers have two or more recordings: calibration needs two such speakers, better ten"
    assert refused(run("calibrate")) == f"1 of 1 {said}"
    words = ["Ana=a.wav", "Ana=b.wav", "Bob=" + record("c.wav", angle(90))]
    assert refused(run("calibrate", *words, "--model", "full")) == f"1 of 2 {said}"


def test_what_calibrate_does_not_understand(run: Run) -> None:
    Path("empty").mkdir()
    assert "'a.wav' is neither NAME=AUDIO nor a folder" in refused(run("calibrate", "a.wav"))
    assert "empty holds no folders" in refused(run("calibrate", "empty"))
    assert "name must not be empty" in refused(run("calibrate", "=a.wav"))
    assert refused(run("calibrate", "Ana=a.wav", "--model", "none")).startswith("none: no such")


# --- help ---------------------------------------------------------------------------------------

COMMANDS: dict[str, Any] = typer.main.get_command(speakers.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_and_its_examples_are_understood(run: Run, name: str) -> None:
    answer = run(name, "--help")
    assert (answer.code, answer.err) == (0, "")
    shown = [line.strip() for line in answer.out.splitlines()]
    assert max(map(len, answer.out.splitlines())) <= 80
    examples = [x for x in COMMANDS[name].epilog.split("\n\n") if x.startswith("samevoice ")]
    assert examples
    for example in examples:
        assert example in shown
        _, group, command, *words = shlex.split(example)
        assert (group, command) == ("speakers", name)
        COMMANDS[name].make_context(name, words)


def test_no_words_at_all_ask_for_help(run: Run) -> None:
    answer = run()
    assert (answer.code, answer.err) == (0, "")
    assert "Usage: samevoice speakers" in answer.out
    assert run("--help").code == 0


# --- the real one -------------------------------------------------------------------------------


def test_with_the_real_pipeline(
    golden: Path,
    fitted_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import soundfile

    monkeypatch.setenv("SAMEVOICE_SPEAKERS", str(tmp_path / "db"))
    for name, clip, start in (("a", "03_dual_speaker", 0), ("b", "04_three_speaker", 20)):
        samples, rate = soundfile.read(golden / "clips" / clip / "clip_16k.wav")
        soundfile.write(tmp_path / f"{name}.wav", samples[start * rate : (start + 7) * rate], rate)
    paths = {name: str(tmp_path / f"{name}.wav") for name in "ab"}
    words = ["--model", str(fitted_bundle)]
    for command in (["enroll", "Ana", paths["a"]], ["identify", *paths.values(), "--json"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["speakers", *command, *words])
        said = capsys.readouterr()
        assert not stopped.value.code, said.err
    same, other = json.loads(said.out)
    names = [voice["name"] for voice in same["voices"]]
    assert names.count("Ana") == 1
    assert same["voices"][names.index("Ana")]["distance"] == pytest.approx(0, abs=1e-6)
    assert {voice["name"] for voice in other["voices"]} == {None}
