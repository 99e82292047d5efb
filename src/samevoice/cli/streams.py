"""Standard output and error: what they cannot show or take never fails a command that went well."""

from __future__ import annotations

import codecs
import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from samevoice.errors import SamevoiceError

LONGEST = 300  # characters of a line on standard error

# The marks that samevoice prints, for terminals without them. What is not here becomes "?".
_ASCII = str.maketrans(
    {
        "✓": "ok", "✗": "x", "–": "-", "—": "-", "→": "->", "×": "x", "∞": "inf", "…": "...",
        "•": "*", "─": "-", "━": "-", "│": "|", "┃": "|", "·": ".", "±": "+-", "≥": ">=", "≤": "<=",
        "‘": "'", "’": "'", "“": '"', "”": '"',
    }
)  # fmt: skip


class StandardOutputError(SamevoiceError):
    """Nobody can be told any result any more."""


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What to print instead of characters that the stream's encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    odd = error.object[error.start : error.end]
    return odd.translate(_ASCII).encode("ascii", "replace").decode(), error.end


codecs.register_error("samevoice", _in_ascii)


class _Output:
    """Standard output that says in a sentence when it takes nothing: a full disk, for one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _in_a_sentence(self._stream):
            return int(self._stream.write(text))

    def flush(self) -> None:
        with _in_a_sentence(self._stream):
            self._stream.flush()


@contextmanager
def _in_a_sentence(stream: Any) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader has seen enough, which is no fault
        raise
    except OSError as error:
        # What is still buffered would fail once more, and louder, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise StandardOutputError(f"standard output cannot be written: {error.strerror}") from error


@contextmanager
def guarded() -> Iterator[None]:
    """For the length of a command, streams that degrade in place of failing."""
    # A file that is opened next would take the place of a stream that is closed.
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        raise StandardOutputError("standard output is closed: send it somewhere, such as /dev/null")
    before = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="samevoice")
    guard: Any = _Output(before)
    sys.stdout = guard
    try:
        yield
        guard.flush()
    finally:
        sys.stdout = before


def echo(text: str) -> None:
    """A line, or several, on standard output, as they are."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def echo_json(document: object) -> None:
    echo(json.dumps(document, indent=2))


def echo_utf8(text: str) -> None:
    """To standard output, in UTF-8 whatever the terminal's encoding is."""
    with _in_a_sentence(sys.stdout):
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="replace"))
        sys.stdout.buffer.flush()


def complain(line: str) -> None:
    """On standard error; where that takes nothing, the exit code has to do."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def one_line(sentence: str, longest: int = LONGEST) -> str:
    """Without what a terminal would obey, and with its middle left out where it is too long.

    One line whatever the sentence holds, so that logs and scripts can rely on it.
    """
    letters = "".join(letter if letter.isprintable() else " " for letter in sentence)
    line = " ".join(letters.split())
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 5]} ... {line[-end:]}"


_TODO = {
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ENOSPC: "make room, or choose another place",
    errno.EACCES: "choose another place, or ask its owner",
}
_NO_MEMORY = (
    "there is not enough memory: cut the recording into pieces, add --device cpu where a GPU is "
    "full, or use a machine with more"
)


def internal(error: BaseException) -> str:
    return f"an internal error of samevoice: {type(error).__name__}: {error}"


def sentence(error: BaseException) -> str | None:
    """What to tell of an error, or nothing if the fault is samevoice's own."""
    if isinstance(error, SamevoiceError):
        return str(error)
    if _is_memory(error):
        return _NO_MEMORY
    if isinstance(error, OSError) and error.strerror:
        name = error.filename2 or error.filename
        todo = f"; {_TODO[error.errno]}" if error.errno in _TODO else ""
        return f"{f'{name}: ' if name else ''}{error.strerror}{todo}"
    return None


def _is_memory(error: BaseException) -> bool:
    """MLX and PyTorch say with a RuntimeError what Python says with a MemoryError."""
    said = str(error).lower()
    if isinstance(error, RuntimeError):
        words = ("allocate", "out of memory", "bad_alloc", "can't start new thread")
        return any(word in said for word in words)
    if isinstance(error, ImportError):  # other reasons would follow after a colon
        return said.endswith("failed to map segment from shared object")
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )
