"""Standard output and error that show or take less than a terminal does."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from made_audio import recording
from safetensors.numpy import save_file
from typed import ended

import samevoice
from samevoice import doctor
from samevoice.cli import pipeline_options, running

SAMEVOICE = (sys.executable, "-m", "samevoice")
FULL = Path("/dev/full")
full_device = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    save_file(made_up.pyannet_arrays(), folder / "small.safetensors")
    samevoice.convert(folder / "small.safetensors", folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", x=np.arange(8.0, dtype=np.float32))
    return tmp_path / "a.npz"


Commands = dict[str, tuple[object, ...]]


@pytest.fixture
def commands(bundle: Path, dump: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Commands that end well, each with marks in what it prints."""
    bad = doctor.Check("mlx", "broken", "naïve", "pip install →")
    monkeypatch.setattr(doctor, "examine", lambda: (bad,))
    return {
        "convert": ("convert", bundle.parent / "small.safetensors", "--dry-run"),
        "inspect": ("inspect", bundle),
        "inspect --json": ("inspect", bundle, "--json"),
        "judge": ("judge", dump, dump),
        "doctor": ("doctor",),
        "speakers": ("speakers",),
        "--help": ("--help",),
        "--version": ("--version",),
    }


NAMES = (
    "convert", "inspect", "inspect --json", "judge", "doctor", "speakers", "--help", "--version",
)  # fmt: skip
each_command = pytest.mark.parametrize("name", NAMES)


@each_command
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_marks_become_ascii_where_the_encoding_has_none(
    name: str, encoding: str, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    assert ended(*commands[name]) == 0
    said = shown.buffer.getvalue().decode(encoding)
    if name == "doctor":
        assert said.splitlines()[0].startswith("x mlx")
        assert "-> pip install ->" in said
        assert ("naïve" if encoding == "latin-1" else "na?ve") in said
    if name == "judge":
        assert " ok" in said


@each_command
@full_device
def test_a_full_disk_behind_standard_output_is_one_line(
    name: str,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open(FULL, "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert ended(*commands[name]) == 2
    said = "standard output cannot be written: No space left on device"
    assert capsys.readouterr().err == f"samevoice: {said}\n"


@each_command
def test_a_closed_standard_output_is_said_before_the_work(
    name: str,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert ended(*commands[name]) == 2
    said = "standard output is closed: send it somewhere, such as /dev/null"
    assert capsys.readouterr().err == f"samevoice: {said}\n"


def test_from_a_shell(dump: Path) -> None:
    """What Python makes of its streams before samevoice is asked."""

    def answer(streams: str, **more: str) -> tuple[int, str, str]:
        line = f'exec "$@" {streams}'
        words = ["sh", "-c", line, "sh", *SAMEVOICE, "judge", str(dump), str(dump)]
        done = subprocess.run(words, capture_output=True, env={**os.environ, **more})
        return done.returncode, done.stdout.decode(), done.stderr.decode("ascii")

    code, out, err = answer("", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (code, err) == (0, "")
    assert " ok" in out
    assert out.isascii()
    code, out, err = answer(">&-")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert answer("2>&-")[0] == 0
    if FULL.exists():
        code, out, err = answer(">/dev/full")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert answer(">/dev/full 2>/dev/full")[0] == 2


@full_device
def test_a_report_that_cannot_be_shown_stops_the_other_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from made_pipeline import Told

    from samevoice.models.diarization import pipeline

    told: Any = type("Told", (Told,), {"made": [], "asked": []})
    monkeypatch.setattr(pipeline, "SpeakerDiarizationPipeline", told)
    for name in ("a.wav", "b.wav"):
        recording(tmp_path / name)
    names = (tmp_path / "a.wav", tmp_path / "b.wav")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.json").write_text("{}")
    with open(FULL, "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        words = ("diarize", *names, "--model", tmp_path / "full", "--output", tmp_path / "out")
        assert ended(*words) == 2
    assert len(told.asked) == 1
    assert capsys.readouterr().err.splitlines()[1:] == []


def test_a_closed_standard_input_is_called_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert ended("diarize", "-", "--model", tmp_path) == 2
    assert "standard input, which is closed" in capsys.readouterr().err


# --- one line of at most 300 characters ---------------------------------------------------------

LONG = "a" * 300
DEEP = "a/" * 3000


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", LONG), ("inspect", DEEP), ("convert", LONG), ("convert", DEEP),
        ("export", LONG, "--output", "b.bin"),
        ("verify", LONG), ("verify", DEEP), ("gate", LONG), ("gate", DEEP),
        ("judge", f"{LONG}.npz", "b.npz"), ("judge", "b.npz", f"{DEEP}a.npz"),
        ("report", LONG), ("report", DEEP), ("report", "--index", DEEP),
        ("release", LONG, "--result", LONG, "--output", LONG),
        ("parity", LONG, "--source", LONG), ("replay", LONG, "--golden", DEEP),
        ("gallery", LONG), ("doctor", "--self-test", LONG), ("doctor", "--self-test", DEEP),
        ("diarize", LONG, "--model", "."), ("diarize", "a.wav", "--model", LONG),
        ("diarize", "a.wav", "--model", ".", "--output", f"{LONG}.rttm"),
        ("diarize", "a.wav", "--model", ".", "--output", DEEP),
        ("speakers", "list", "--db", LONG), ("speakers", "enroll", "Ana", LONG, "--model", "."),
        ("bench", "--source", LONG), ("bench", "--model", DEEP), ("bench", "--audio", LONG),
        ("convert", "a", f"--{LONG}"), (LONG,), ("diarize", "a.wav", "--format", DEEP),
        ("diarize", "a.wav", "--num-speakers", "9" * 5000),
        ("convert", "reference:segmentation", "--dry-run", "--max-shard-size", "9" * 400),
    ],
    ids=lambda words: " ".join(word[:14] for word in words),
)  # fmt: skip
def test_names_and_numbers_beyond_all_measure_are_one_short_line(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert ended(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("samevoice: ")
    assert said.err.count("\n") == 1
    assert len(said.err.rstrip("\n")) <= 300
    assert "internal error" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_long_line_keeps_its_start_and_its_end_and_debug_shows_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("judge", f"{LONG}\x1b[31m.npz", f"{LONG}.npz")
    assert ended(*words) == 2
    short = capsys.readouterr().err
    assert len(short) == 301
    assert " ... " in short
    assert "\x1b" not in short
    assert ended("--debug", *words) == 2
    whole = capsys.readouterr().err.splitlines()[-1]
    assert whole.startswith("samevoice: ")
    start, end = short.rstrip("\n").split(" ... ")
    assert whole.startswith(start)
    assert whole.endswith(end)
    assert len(whole) > 300


def test_a_chunk_longer_than_an_hour_is_refused(
    narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording(tmp_path / "a.wav")
    words = ("diarize", tmp_path / "a.wav", "--model", narrow_bundle, "--chunk-duration")
    for seconds in ("1e300", "1e10"):
        assert ended(*words, seconds) == 2
        assert "s are too long: at most an hour" in capsys.readouterr().err


# --- too little memory --------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[malloc] Unable to allocate 68719476736 bytes."),
        RuntimeError("[metal::malloc] Attempting to allocate 99 bytes which is greater than"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_too_little_memory_is_said_with_what_to_do(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording(tmp_path / "a.wav")
    monkeypatch.setattr(pipeline_options, "load", raising(error))
    assert ended("diarize", tmp_path / "a.wav", "--model", tmp_path) == 2
    said = "there is not enough memory: cut the recording into pieces, add --device cpu"
    assert capsys.readouterr().err.startswith(f"samevoice: {said}")


def test_a_fault_of_its_own_is_still_called_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "_run", raising(RuntimeError("wrong " * 200)))
    assert ended("doctor") == 2
    said = capsys.readouterr().err
    assert said.startswith("samevoice: an internal error of samevoice: RuntimeError: wrong")
    assert said.endswith("; --debug shows where\n")
    assert len(said) <= 301
