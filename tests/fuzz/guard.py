"""One command in this process, and everything that it must not do, whatever it is given.

An audit hook sees what Python opens, connects to and starts. What libraries and ffmpeg open is seen
by the system: a folder that nobody named is watched, and playlists and names point into it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

LONGEST_LINE = 300
SECONDS = 10.0
_ROOT = Path(__file__).resolve().parents[2]
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.truncate", "os.utime", "os.chown", "os.mkfifo")  # fmt: skip
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto")
_PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "os.startfile")
_PLAYERS = ("ffmpeg", "ffprobe")


class TooLongError(BaseException):
    """Not an Exception: code that forgives errors must not forgive this one."""


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str
    faults: list[str] = field(default_factory=list)


class Guard:
    """Watches this process for as long as a command runs in ``folder``."""

    def __init__(self, folder: Path, outside: Path) -> None:
        self.folder = str(folder)
        self.outside = Watched(outside)
        places = [sys.prefix, sys.base_prefix, str(_ROOT), *filter(None, sys.path)]
        real = {os.path.realpath(place) for place in places}
        self._readable = (*real, "/usr", "/lib", "/proc", "/sys", "/etc/ld.so", "/etc/localtime")
        self._devices = ("/dev/null", "/dev/urandom")
        self._seen: list[str] | None = None
        sys.addaudithook(self._audit)

    def run(self, command: Callable[[], None], *, may_change: tuple[str, ...] = ()) -> Ran:
        """Run it with its output in files, as C's part of it goes nowhere else."""
        self._writable = tuple(os.path.join(self.folder, name) for name in ("out", "tmp"))
        self._writable += tuple(os.path.join(self.folder, name) for name in may_change)
        before = _children()
        with _captured(self.folder) as said:
            faults: list[str] = []
            self._seen = faults
            code = self._ended(command)
            self._seen = None
        ran = Ran(code, said["out"], said["err"], faults)
        ran.faults += [f"{name} outside was touched" for name in self.outside.touched()]
        ran.faults += _unfit(ran)
        if left := os.listdir(os.path.join(self.folder, "tmp")):
            ran.faults.append(f"a temporary file stays: {left[0]}")
        if stays := [name for child, name in _children().items() if child not in before]:
            ran.faults.append(f"a child stays: {' '.join(stays)}")
        return ran

    def _ended(self, command: Callable[[], None]) -> int:
        assert self._seen is not None
        handler = signal.signal(signal.SIGALRM, _too_long)
        left, _ = signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            command()
            return 0
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 1
        except TooLongError as late:
            self._seen.append(f"hangs: {_where(late)}")
        except BaseException as error:
            self._seen.append(f"raised {type(error).__name__}: {error}: {_where(error)}"[:400])
        finally:
            signal.setitimer(signal.ITIMER_REAL, left)
            signal.signal(signal.SIGALRM, handler)
        return -1

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if self._seen is None:
            return
        if event == "open":
            self._opened(given)
        elif event in _CHANGES:
            for path in given[: 2 if event in ("os.rename", "os.link") else 1]:
                if isinstance(path, str | bytes | os.PathLike) and not _by_descriptor(given):
                    self._check(path, writing=True, what=event)
        elif event in _NETWORK and given and getattr(given[0], "family", 2) != 1:
            self._note(f"{event} {given[1:]}")
        elif event == "subprocess.Popen":
            self._started(given)
        elif event in _PROGRAMS:
            self._note(f"{event} {given[:1]}")

    def _opened(self, given: tuple[Any, ...]) -> None:
        path, mode, flags = given
        if isinstance(path, int):
            return
        writing = bool((flags or 0) & _WRITING) if mode is None else any(x in mode for x in "wax+")
        self._check(path, writing=writing, what="open")

    def _check(self, path: Any, *, writing: bool, what: str) -> None:
        real = os.path.realpath(os.fsdecode(path))
        if real in self._devices:
            return
        allowed = self._writable if writing else (*self._readable, self.folder)
        if not any(real == place or real.startswith(f"{place}/") for place in allowed):
            self._note(f"{what} {real[:200]} for {'writing' if writing else 'reading'}")

    def _started(self, given: tuple[Any, ...]) -> None:
        program, words = given[0], [os.fsdecode(word) for word in given[1]]
        if words == ["/sbin/ldconfig", "-p"]:  # so ctypes looks for a library
            return
        if os.path.basename(os.fsdecode(program)) not in _PLAYERS:
            self._note(f"starts {words[:3]}")
        for word in words[1:]:
            path = word.removeprefix("file:")
            if path.startswith("/"):
                self._check(path, writing=False, what="ffmpeg")

    def _note(self, what: str) -> None:
        assert self._seen is not None
        if what not in self._seen and len(self._seen) < 5:
            self._seen.append(what)


def _by_descriptor(given: tuple[Any, ...]) -> bool:
    """Inside an open folder, as rmtree removes: the folder was checked when it was opened."""
    return any(isinstance(x, int) and x not in (-1, 0o777, 0o700) for x in given[-1:])


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLongError


def _where(error: BaseException) -> str:
    """The innermost place that is samevoice's own."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/src/samevoice/" in frame.filename] or list(frames)
    name = ours[-1].filename.rpartition("/src/samevoice/")[2]
    return f"{name}:{ours[-1].lineno}"


def _unfit(ran: Ran) -> Iterator[str]:
    """What is wrong with how it ended and with what it said."""
    said = [line for line in ran.err.splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("samevoice: ")]
    others = [line for line in said if not line.startswith(("samevoice: ", "note ", "warning "))]
    if ran.code not in (0, 1, 2):
        yield f"exit code {ran.code}"
    if "Traceback (most recent call last)" in ran.out + ran.err:
        yield "a traceback"
    if "internal error of samevoice" in ran.out + ran.err:
        yield (
            "an internal error of samevoice: " + ran.err.partition("of samevoice:")[2].strip()[:200]
        )
    if len(errors) != (ran.code != 0) or (errors and said[-1] != errors[0]):
        yield f"{len(errors)} error lines with exit code {ran.code}"
    if others:
        yield f"on standard error: {others[0][:200]}"
    if longest := [line for line in errors if len(line) > LONGEST_LINE]:
        yield f"an error line of {len(longest[0])} characters: {longest[0][:80]}"


@contextmanager
def _captured(folder: str) -> Iterator[dict[str, str]]:
    """Standard output and standard error, C's too."""
    said: dict[str, str] = {}
    kept = [os.dup(1), os.dup(2)]
    names = [os.path.join(os.path.dirname(folder), f"std{k}") for k in (1, 2)]
    for number, name in enumerate(names, start=1):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    before = sys.stdout, sys.stderr
    sys.stdout = os.fdopen(1, "w", closefd=False, encoding="utf-8", errors="surrogateescape")
    sys.stderr = os.fdopen(2, "w", closefd=False, encoding="utf-8", errors="backslashreplace")
    try:
        yield said
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
        for number, file in enumerate(kept, start=1):
            os.dup2(file, number)
            os.close(file)
        for key, name in zip(("out", "err"), names, strict=True):
            said[key] = Path(name).read_text(errors="replace")


def _children() -> dict[str, str]:
    """Commands of what this process started and did not wait for, by their numbers."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    names = {}
    for child in found.read_text().split():
        with suppress(OSError):
            names[child] = Path(f"/proc/{child}/comm").read_text().strip()
    return names


class Watched:
    """A folder in which every opening, change and new name is seen, whoever does it."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        # access, modify, open, moved from and to, create, delete
        if libc.inotify_add_watch(self._file, os.fsencode(folder), 0x1 | 0x2 | 0x20 | 0x3C0) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {folder}")

    def touched(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                data = os.read(self._file, 1 << 16)
            except BlockingIOError:
                return list(dict.fromkeys(found))
            at = 0
            while at < len(data):
                size = struct.unpack_from("iIII", data, at)[3]
                name = data[at + 16 : at + 16 + size].rstrip(b"\0")
                if name:  # the folder itself is listed by whoever looks through /tmp
                    found.append(os.fsdecode(name))
                at += 16 + size
