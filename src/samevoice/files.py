"""Reading what others wrote: what every reader of a named file asks first, and plain JSON."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from samevoice.errors import SamevoiceError

MOST_TEXT = 64 << 20  # bytes; the index of a network of 100,000 tensors takes 10 MB
LARGEST = 512 << 20  # bytes of a result
# What a folder is searched for; a file that is named is read whatever it is called.
_KINDS = (
    "wav wave flac ogg oga opus mp3 aiff aif aifc au snd caf w64 rf64 sph m4a m4b aac mp4 m4v mov "
    "mkv mka webm avi wma wmv amr 3gp mpg mpeg"
)
RECORDINGS = frozenset(f".{kind}" for kind in _KINDS.split())
_HALVES = re.compile(r"\\u[dD][89a-fA-F]")  # of a character that takes two, in JSON


def cache_folder() -> Path:
    """``$SAMEVOICE_CACHE``, else the user's cache folder."""
    named = os.environ.get("SAMEVOICE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samevoice"


def below(folder: str | Path, suffixes: Collection[str], error: type[SamevoiceError]) -> list[Path]:
    """The files of these kinds below a folder, sorted; hidden ones are somebody's own business.

    A pipe is read where it is named, not where it is found: it may give nothing for ever.
    """

    def unreadable(fault: OSError) -> None:
        raise error(f"{fault.filename} cannot be searched: {fault.strerror}") from fault

    found = []
    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".")
            and Path(name).suffix.lower() in suffixes
            and not Path(place, name).is_fifo()
        ]
    return sorted(found)


def refuse_special(path: Path, error: type[SamevoiceError]) -> None:
    """Raise ``error`` for a pipe or a device, which would keep its reader waiting for ever.

    What does not exist, and a folder, is the reader's own business.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise error(f"{path} is not an ordinary file: name a file, not a pipe or a device")


def read_text(path: Path, error: type[SamevoiceError], most: int = MOST_TEXT) -> str:
    """The text of an ordinary file; OSError and UnicodeDecodeError are left to the caller."""
    refuse_special(path, error)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        size = f"{most >> 20} MiB" if most >> 20 else f"{most >> 10} KiB"
        raise error(f"{path} is larger than {size}: it is not what its name says")
    return data.decode("utf-8")


def read_named(path: Path, error: type[SamevoiceError]) -> str:
    """The text of a file that a user named; whatever is wrong with it raises ``error``."""
    try:
        return read_text(path, error, LARGEST)
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path} is not UTF-8") from None
    except ValueError:
        raise error(f"cannot read {str(path)!r}: no file has such a name") from None


def read_versioned(path: Path, schema: int, error: type[SamevoiceError], otherwise: str) -> Any:
    """The object that a file of ours holds; ``otherwise`` says what one of another schema is."""
    text = read_named(path, error)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path} is not JSON, or was cut off: {reason}") from None
    if not isinstance(found, dict) or found.get("schema") != schema:
        raise error(f"{path} {otherwise}")
    return found


def read_json(path: Path, error: type[SamevoiceError]) -> dict[str, Any]:
    """The object that a file of a bundle holds, as ``parse_json`` reads it."""
    try:
        return parse_json(read_text(path, error))
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{path.parent} has no {path.name}: it is no samevoice bundle") from None
    except OSError as found:
        raise error(f"{path} cannot be read: {found.strerror}") from None
    except ValueError as found:
        raise error(f"{path} cannot be read: {found}") from None


def parse_json(text: str) -> dict[str, Any]:
    """A JSON object that can be passed on: ValueError says in a few words why it cannot.

    Python's own reader takes NaN, numbers beyond any float, a name that stands twice, and halves
    of characters, which nothing can print.
    """
    try:
        found = json.loads(
            text, object_pairs_hook=_no_name_twice, parse_constant=_finite, parse_float=_finite
        )
        if _HALVES.search(text):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text[:20]} is no number that a file may hold")
    return value


def stays_below(name: str) -> bool:
    """Whether a relative POSIX name can only lie below the folder it is meant for."""
    pure = PurePosixPath(name)
    wild = not name.isprintable() or "\\" in name or ":" in name
    return bool(name) and not wild and not pure.is_absolute() and ".." not in pure.parts


def sha256_of(text: str) -> str:
    """Of any text, also one that holds halves of characters."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def sha256(path: Path, error: type[SamevoiceError]) -> str:
    """Of an ordinary file; OSError is left to the caller."""
    refuse_special(path, error)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
