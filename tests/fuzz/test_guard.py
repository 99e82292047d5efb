"""The fuzzer sees what it is there to see: each misdeed is done once, and found."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz import guard
from fuzz.guard import Guard, Ran

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the fuzzer watches files with inotify and reads /proc"
)


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guard:
    """A guard over a folder, beside one that nobody names."""
    folder, outside = tmp_path / "case" / "w", tmp_path / "outside"
    for one in (folder / "out", folder / "tmp", outside):
        one.mkdir(parents=True)
    (outside / "secret.wav").write_bytes(b"secret")
    (tmp_path / "other").write_text("other")
    (folder / "list.ffconcat").write_text(
        f"ffconcat version 1.0\nfile '{outside / 'secret.wav'}'\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr(guard, "SECONDS", 0.5)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    return Guard(folder, outside)


def fail(*lines: str, code: int = 2) -> None:
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(code)


def connect() -> None:
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))


def spin() -> None:
    while True:
        pass


def forgiving() -> None:
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def play(*words: str) -> None:
    subprocess.run(["ffmpeg", "-v", "quiet", *words, "-f", "null", "-"], stdin=subprocess.DEVNULL)


def in_c() -> None:
    ctypes.CDLL(None).open(b"../../outside/secret.wav", os.O_RDONLY)


def both(*commands: Callable[[], object]) -> None:
    for one in commands:
        one()


MISDEEDS: dict[str, tuple[Callable[[], object], str]] = {
    "reads beside its folder": (lambda: Path("../../other").read_text(), "/other for reading"),
    "writes beside its folder": (lambda: Path("../x").write_text(""), "/x for writing"),
    "writes to its input": (lambda: Path("input").write_text(""), "/input for writing"),
    "removes": (lambda: os.remove("../../other"), "os.remove"),
    "makes a folder": (lambda: os.mkdir("../made"), "os.mkdir"),
    "connects": (connect, "socket.connect"),
    "asks for a name": (lambda: socket.getaddrinfo("localhost", 80), "socket.getaddrinfo"),
    "starts a program": (lambda: subprocess.run(["true"]), "starts ['true']"),
    "runs a shell": (lambda: os.system("true"), "os.system"),
    "lets a library read": (in_c, "secret.wav outside was touched"),
    "keeps a temporary file": (tempfile.mkstemp, "a temporary file stays"),
    "hangs": (spin, "hangs: "),
    "hangs and forgives": (forgiving, "hangs: "),
    "raises": (lambda: [][0], "raised IndexError"),
    "another exit code": (lambda: fail("samevoice: no", code=3), "exit code 3"),
    "two lines": (lambda: fail("samevoice: no", "samevoice: never"), "2 error lines"),
    "no line": (lambda: fail(), "0 error lines"),
    "a long line": (lambda: fail(f"samevoice: {'x' * 300}"), "an error line of 311"),
    "a traceback": (lambda: fail("Traceback (most recent call last)"), "a traceback"),
    "its own fault": (
        lambda: fail("samevoice: an internal error of samevoice: KeyError"),
        "an internal error of samevoice: KeyError",
    ),
    "chatter": (lambda: print("RuntimeWarning: overflow", file=sys.stderr), "on standard error"),
}


@pytest.mark.parametrize("name", MISDEEDS)
def test_a_misdeed_is_seen(guarded: Guard, name: str) -> None:
    command, expected = MISDEEDS[name]
    faults = guarded.run(lambda: both(command)).faults
    assert any(expected in fault for fault in faults), faults


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_what_ffmpeg_reads_is_seen(guarded: Guard) -> None:
    ran = guarded.run(lambda: play("-safe", "0", "-i", "list.ffconcat"))
    assert ran.faults == ["secret.wav outside was touched"]
    ran = guarded.run(lambda: play("-i", "/etc/hostname"))
    assert any("ffmpeg /etc/hostname" in fault for fault in ran.faults)


def test_a_child_that_stays_is_seen(guarded: Guard) -> None:
    children: list[subprocess.Popen[bytes]] = []
    started = guarded.run(lambda: children.append(subprocess.Popen(["sleep", "9"])))
    children[0].kill()
    children[0].wait()
    assert any("a child stays: " in fault for fault in started.faults)


def test_a_good_command_is_left_in_peace(guarded: Guard) -> None:
    def work() -> None:
        Path("out/a").write_text(Path("list.ffconcat").read_text())
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "x").write_text("")
        print("done")
        fail("note  something", "samevoice: one sentence", code=1)

    said = "note  something\nsamevoice: one sentence\n"
    assert guarded.run(work) == Ran(1, "done\n", said, [])
