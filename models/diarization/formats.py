"""Turns as text: RTTM, SRT and WebVTT; and RTTM read back."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from samevoice.errors import SamevoiceError
from samevoice.files import refuse_special

Span = tuple[float, float, str]  # start and end in seconds, and who

# Readers made with pandas, such as pyannote.database, take these for nothing at all.
_MISSING = (
    "#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null"
)
NOTHING = frozenset(_MISSING.split())


class RttmError(SamevoiceError):
    """A file is no RTTM."""


# RTTM --------------------------------------------------------------------------------------------


def rttm(spans: Sequence[Span], uri: str) -> str:
    """One SPEAKER line a span, byte for byte as pyannote.core writes them.

    Its fields stand between spaces, so what cannot stand in a name becomes ``_``: white space of
    any kind, control and other unprintable characters, double quotes. Names that readers take for
    nothing (``NA``, ``None``, ``null`` ...) get a ``_`` behind them, and so do speakers who would
    become one that way.
    """
    where = field(uri) if uri else "<NA>"
    names = _fields(who for _, _, who in spans)
    return "".join(
        f"SPEAKER {where} 1 {start:.3f} {end - start:.3f} <NA> <NA> {names[who]} <NA> <NA>\n"
        for start, end, who in spans
    )


def field(name: str) -> str:
    """A name as RTTM can hold it."""
    kept = "".join(c if c.isprintable() and c not in ' "' else "_" for c in composed(name))
    return f"{kept}_" if kept in NOTHING or not kept else kept


def composed(name: str) -> str:
    """A letter and its accent as one: macOS often parts them in the names of files."""
    return unicodedata.normalize("NFC", name)


def _fields(names: Iterable[str]) -> dict[str, str]:
    """Each name as a field, and no two alike; a name that needs no change keeps it."""
    given = sorted(set(names), key=lambda name: (field(name) != name, name))
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in given:
        as_field = field(name)
        while as_field in taken:
            as_field += "_"
        taken.add(as_field)
        found[name] = as_field
    return found


def spans_of_rttm(path: Path) -> dict[str, list[Span]]:
    """Every recording's turns by its uri. Comments and lines of other kinds are passed over."""
    return spans_in(_text(path), str(path))


def spans_in(text: str, path: str) -> dict[str, list[Span]]:
    """The same of a text; errors name it as that of a file."""
    found: dict[str, list[Span]] = {}
    # Only line feeds end a line: a name may hold what Python's splitlines would cut at.
    for number, line in enumerate(text.split("\n"), start=1):
        words = re.split(r"[ \t]+", line.strip(" \t\r"))
        if words[0] != "SPEAKER":
            _refuse_other(words[0], f"{path}, line {number}")
            continue
        if len(words) < 8:
            raise RttmError(f"{path}, line {number}: {len(words)} fields, but SPEAKER needs 8")
        start, length = (_seconds(word, f"{path}, line {number}") for word in words[3:5])
        uri = "" if words[1] == "<NA>" else composed(words[1])
        found.setdefault(uri, []).append((start, start + length, words[7]))
    return found


# What NIST's format knows beside turns.
_NIST = (
    "SEGMENT NOSCORE NO_RT_METADATA LEXEME NON-LEX NON-SPEECH FILLER EDIT SU IP CB A/P SPKR-INFO"
)
_OTHER_KINDS = frozenset(_NIST.split())


def _refuse_other(kind: str, where: str) -> None:
    if kind and not kind.startswith(";") and kind not in _OTHER_KINDS:
        raise RttmError(f"{where}: {kind[:40]!r} begins no RTTM line: is the file RTTM?")


def _text(path: Path) -> str:
    refuse_special(path, RttmError)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RttmError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RttmError(f"{path} is no UTF-8 text: is the file RTTM?") from error


def _seconds(word: str, where: str) -> float:
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise RttmError(f"{where}: {word[:40]!r} is no time in seconds")
    return found


# Subtitles ---------------------------------------------------------------------------------------


def srt(spans: Sequence[Span]) -> str:
    """One numbered cue a span; its text is the speaker."""
    return "\n".join(
        f"{number}\n{times(start, end)}\n{_line(who).replace('-->', '->')}\n"
        for number, (start, end, who) in enumerate(spans, start=1)
    )


def vtt(spans: Sequence[Span]) -> str:
    """The same as WebVTT, the speaker in a voice tag."""
    cues = (
        f"\n{number}\n{times(start, end, '.')}\n<v {_marked(who)}>{_marked(who)}\n"
        for number, (start, end, who) in enumerate(spans, start=1)
    )
    return "WEBVTT\n" + "".join(cues)


def times(start: float, end: float, point: str = ",") -> str:
    """A cue's times, in milliseconds that are counted first, so that none becomes 1000."""
    first = max(0, round(1000 * start))
    last = max(first + 1, round(1000 * end))
    return f"{_time(first, point)} --> {_time(last, point)}"


def _time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{milliseconds:03d}"


def _line(name: str) -> str:
    """A name on one line, and never an empty one, which would end the cue."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split()) or "_"


def _marked(name: str) -> str:
    return escape(_line(name), quote=False)


# JSON --------------------------------------------------------------------------------------------


def json_text(content: Mapping[str, Any]) -> str:
    """One line a key, and one line a turn or speaker below it."""
    parts = (f"  {_json(key)}: {_json_value(value)}" for key, value in content.items())
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    # A file name that is no Unicode holds lone surrogates, which JSON has escapes for.
    return text.encode("utf-8", "backslashreplace").decode()


def _json_value(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"    {_json(item)}" for item in value) + "\n  ]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
