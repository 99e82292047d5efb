"""Where results may go, asked before the work; and files that are whole or not there."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from samevoice.errors import SamevoiceError

LONGEST_NAME = 255  # bytes, of the usual file systems
_HEAD = 64 << 10  # bytes in which every kind shows itself


class OutputError(SamevoiceError):
    """A result cannot be written."""


def _begins(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.DOTALL)


_SVG = _begins(r".*<svg .*<style>svg\{--.*@media\(prefers-color-scheme:dark\)\{svg\{--")

# How a file of each kind begins; a report's are called what they are called in its folder.
_FILES = {
    "turns": _begins(
        r"SPEAKER \S+ \S+ [\d.]+ [\d.]+ |\d+\r?\n\d\d+:\d\d:\d\d,\d{3} --> |WEBVTT"
        r'|\{\s*"uri": [^\n]*,\s*"duration": [\d.]+,\s*("speakers": \[|"task": ")'
        r'|<!doctype html>.{,99}<meta name="generator" content="samevoice diarize '
    ),
    "drawing": _begins(r"<svg [^\n]*>\n<title>Who speaks when in "),
    "result.json": _begins(r'\{\s*"bundle": \{.*"command": '),
    "report.html": _begins(r"<!doctype html>.*<span>samevoice parity report</span>"),
    "index.html": _begins(r"<!doctype html>.*<span>samevoice parity report</span>"),
    "report.md": _begins(r"## (✅|⚠️|❌) `"),
    "junit.xml": _begins(r'.*<testsuites name="samevoice"'),
    "plot": _SVG,
    "gallery.md": _begins(r"### .*\| bug \| found at \| noise ratio \|"),
    "gallery.json": _begins(r'\{\s*"schema": .*"findings": \['),
    "tune.json": _begins(r'\{\s*"schema": \d+,\s*"command": "tune"'),
    "evaluated": _begins(r'\{\s*"schema": \d+,\s*"command": "evaluate",\s*"uri"'),
    "evaluation.json": _begins(r'\{\s*"schema": \d+,\s*"command": "evaluate",\s*"samevoice"'),
    "evaluation.html": _begins(r"<!doctype html>.*<span>samevoice evaluation</span>"),
    "history.html": _begins(r"<!doctype html>.*<span>samevoice history</span>"),
    "evaluation.md": _begins(r"## (✅|❌|📊) samevoice evaluation of "),
    "evaluation.csv": _begins(r"uri,duration,speakers,scored,"),
    "precision.json": _begins(r'\{\s*"schema": \d+,\s*"command": "precision"'),
    "precision.html": _begins(r"<!doctype html>.*<span>samevoice precision</span>"),
    "precision.md": _begins(r"## samevoice precision of "),
    "recipe.toml": _begins(r"# Found by samevoice precision "),
    "code": _begins(r"(?!)"),  # people edit it, so that it can't be made again
    "bench.json": _begins(r'\{\s*"date": .*"left_out": '),
    "bench.md": _begins(r"# Benchmarks\n\n\d{4}-\d\d-\d\d, "),
    "bench.svg": _SVG,
}

# What a folder of each kind must hold, and what it may hold beside that.
_FOLDERS = {
    "golden": ("golden.json", re.compile(r"\d{3,}\.safetensors")),
    "reproduction": ("about.json", re.compile(r"[a-z]+\.safetensors")),
}

Target = tuple[Path, str]  # and the kind of what goes there


def refuse(
    targets: Iterable[Target], *, inputs: Iterable[str | Path] = (), overwrite: bool = False
) -> None:
    """Raise unless each target can be written without loss.

    What is there must be a result of the same kind, or empty; ``overwrite`` gives up any other
    file, but no folder and nothing that is read.
    """
    read = Inputs.of(inputs)
    seen: set[str] = set()
    for path, kind in targets:
        real = Path(os.path.realpath(path))
        if (name := as_kept(real)) in seen:
            raise OutputError(f"{path} would be written twice: choose two names")
        seen.add(name)
        _refuse_one(path, real, kind, read, overwrite)


def _refuse_one(path: Path, real: Path, kind: str, read: Inputs, overwrite: bool) -> None:
    if not os.path.exists(real):  # which is not told that a name is too long
        _refuse_long(path)
        refuse_unwritable(path.parent)
        return
    if not (real.is_file() or real.is_dir()):  # a device, such as /dev/null, loses nothing
        return
    ours = is_result(real, kind)
    read.refuse(path, but_inside=ours)
    if not ours and real.is_dir():
        raise OutputError(f"{path} is a folder with other files: choose another path")
    if not ours and (kind in _FOLDERS or not overwrite):
        way_out = "" if kind in _FOLDERS else ", or pass --overwrite"
        raise OutputError(
            f"{path} exists and is not a result of this kind: choose another path{way_out}"
        )
    refuse_unwritable(path.parent)


def as_kept(path: Path) -> str:
    """The path as its disk knows it: most Macs' take a.rttm and A.rttm for one file."""
    if not _ignores_case(path.absolute().parent):
        return str(path)
    return unicodedata.normalize("NFC", str(path)).casefold()


@cache
def _ignores_case(folder: Path) -> bool:
    """Whether the nearest folder with letters in its name answers to the other ones, too."""
    for path in (folder, *folder.parents):
        if path.name.swapcase() != path.name and os.path.exists(path):
            other = path.with_name(path.name.swapcase())
            return os.path.exists(other) and os.path.samefile(path, other)
    return False


def _refuse_long(path: Path) -> None:
    """A folder that is to be made first does not tell."""
    for name in path.parts:
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise OutputError(f"{path} cannot be made: File name too long")


@dataclass(frozen=True)
class Inputs:
    """What is read: each once, however many targets are looked up."""

    files: frozenset[tuple[int, int]]  # by device and number, whatever their names
    folders: tuple[str, ...]

    @classmethod
    def of(cls, paths: Iterable[str | Path]) -> Inputs:
        real = [os.path.realpath(path) for path in paths if os.path.exists(path)]
        folders = tuple(path for path in real if os.path.isdir(path))
        return cls(frozenset(map(_identity, real)), folders)

    def refuse(self, path: Path, *, but_inside: bool = False) -> None:
        """Raise where a file that is there is an input, or lies in a folder that is one."""
        real = Path(os.path.realpath(path))
        inside = not but_inside and any(map(real.is_relative_to, self.folders))
        if inside or _identity(real) in self.files:
            raise OutputError(f"{path} is read here and would be overwritten: choose another path")


def _identity(path: str | Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def refuse_read(path: Path, inputs: Iterable[str | Path]) -> None:
    """Raise where a file that is there is an input, or lies in a folder that is one."""
    Inputs.of(inputs).refuse(path)


def is_result(path: Path, kind: str) -> bool:
    """Whether what is there can be made again: a result of this kind, or nothing at all."""
    try:
        if path.is_dir() or kind in _FOLDERS:
            return kind in _FOLDERS and _holds(set(os.listdir(path)), *_FOLDERS[kind])
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return not head or _FILES[kind].match(head) is not None


def _holds(names: set[str], index: str, others: re.Pattern[str]) -> bool:
    return not names or (index in names and all(map(others.fullmatch, names - {index})))


def refuse_unwritable(folder: Path) -> None:
    """Before the work, not behind it; nothing is made yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if _is_there(path))
    if not there.is_dir():
        raise OutputError(f"{folder} cannot be made: {there} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OutputError(
            f"{there} cannot be written to: {error.strerror}; choose another place"
        ) from None


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}") from None
    return True


# Writing ------------------------------------------------------------------------------------------


_PARTIAL = re.compile(r"\.samevoice-(\d+)-\d+\.partial")


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed runs left: their process is gone here, and nobody elsewhere writes it.

    Once: a folder of 10,000 results takes a while to look through.
    """
    paths: list[Path] = []
    with suppress(OSError):  # one may write into a folder that one may not look into
        paths += folder.iterdir()
    for path in paths:
        found = _PARTIAL.fullmatch(path.name)
        if found and not _lives(int(found[1])):
            with suppress(OSError), open(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def write(texts: Mapping[Path, str]) -> None:
    """Files that are whole or not there: all are written aside before the first gets its name."""
    asides: dict[Path, Path] = {}
    at = next(iter(texts))
    try:
        for at, text in texts.items():
            target = Path(os.path.realpath(at))
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and not target.is_file():  # a device or a pipe has no aside
                target.write_text(text, encoding="utf-8")
                continue
            _sweep(target.parent)
            aside = target.parent / f".samevoice-{os.getpid()}-{len(asides)}.partial"
            asides[aside] = target
            with open(aside, "w", encoding="utf-8", newline="\n") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for aside, at in asides.items():
            aside.replace(at)
    except OSError as error:
        raise OutputError(f"{at} cannot be written: {error.strerror or error}") from error
    finally:
        for aside in asides:
            aside.unlink(missing_ok=True)
