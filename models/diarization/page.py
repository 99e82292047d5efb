"""Turns as a page: a player, the waveform, and a lane a speaker, who can be renamed and merged.

The page is one HTML file that asks for nothing but its recording. Whatever stands in it may come
from outside: all of it is escaped, and the page's own policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

import samevoice
from samevoice.models.diarization import formats
from samevoice.models.diarization.drawing import COLOURS, clock, shown, steps

if TYPE_CHECKING:
    from samevoice.models.diarization.output import Turns

COLUMNS = 2000  # of the waveform
MARKS = 5  # on the axis, at most, so that they fit on a phone
LARGEST_INSIDE = 50 * 10**6  # bytes of a recording that a page may hold

_TEMPLATES = Path(__file__).resolve().parent / "templates"
# A table of our own, as Python's differs from machine to machine.
_KINDS = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}


def beside(recording: Path, page: Path) -> str:
    """The address of a recording as the page says it: relative, so that both may move together."""
    way = os.path.relpath(os.path.realpath(recording), os.path.realpath(page.parent))
    return quote(os.fsencode(way), safe="/")


def inside(recording: Path) -> str:
    """The recording itself as an address."""
    kind = _KINDS.get(recording.suffix.lower(), "application/octet-stream")
    return address(kind, recording.read_bytes())


def address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(
    turns: Turns, loudness: NDArray[np.float32], duration: float, recording: str, audio: str
) -> str:
    """The page of one recording.

    ``loudness`` (columns,) is the envelope of all ``duration`` seconds, ``recording`` the name of
    the file, ``audio`` its address, which ``beside`` or ``inside`` gave.
    """
    script = _template("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    embedded = audio.startswith("data:")
    name = shown(recording)
    keep = f"Keep {name} where it is: the page plays it from there."
    speakers, count = _many(len(turns.labels()), "speaker"), _many(len(turns), "turn")
    return Template(_template("page.html")).substitute(
        version=samevoice.__version__,
        media="data:" if embedded else "'self' file:",
        script_hash=f"sha256-{digest}",
        title=shown(turns.uri or "this recording"),
        style=_template("page.css"),
        summary=f"{_time(duration)} long, {speakers}, {count}",
        audio=audio,
        columns=len(loudness),
        wave=_wave(loudness),
        axis="".join(_axis(duration)),
        turn_count=count,
        rows="\n".join(_rows(turns)),
        about="The recording is inside this file." if embedded else keep,
        data=_data(turns, duration, recording),
        script=script,
    )


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _time(seconds: float) -> str:
    """Tenths of seconds, counted before they are split up."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{tenths / 10:04.1f}"


def _wave(loudness: NDArray[np.float32]) -> str:
    """A stroke a column; the loudest fills the height of 100.

    Drawn are square roots, or one knock on the table would flatten all that is said.
    """
    top = float(loudness.max(initial=0.0)) or 1.0
    halves = np.maximum(np.rint(np.sqrt(loudness / top) * 48), 1).astype(int)
    return "".join(f"M{n}.5 {50 - half}v{2 * half}" for n, half in enumerate(halves))


def _distances(duration: float) -> list[float]:
    """Round distances between two marks on the axis; the last gives no more than MARKS."""
    found = []
    for distance in steps():
        found.append(distance)
        if duration / distance <= MARKS:
            break
    return found


def _axis(duration: float) -> Iterator[str]:
    distance = _distances(duration)[-1]
    for number in range(math.ceil(duration / distance - 0.3)):  # none at the very end
        place = 100 * number * distance / duration
        yield f'<span style="left:{place:.3f}%">{clock(number * distance)}</span>'


def _rows(turns: Turns) -> Iterator[str]:
    for start, end, who in turns.spans:
        yield f"<tr><td>{_time(start)}</td><td>{_time(end)}</td><td>{shown(who)}</td></tr>"


def _data(turns: Turns, duration: float, recording: str) -> str:
    """What the script needs, as JSON that cannot end its element.

    Times stand in it as the formats write them, so that what the page saves is the same to the
    digit.
    """
    labels = turns.labels()
    number = {label: place for place, label in enumerate(labels)}
    name = formats.field(turns.uri) if turns.uri else "<NA>"
    content: dict[str, Any] = {
        "uri": name,
        "file": name if turns.uri else "turns",
        "audio": recording,
        "duration": max(duration, 1e-3),
        "distances": _distances(duration),
        "marks": MARKS,
        "colours": COLOURS,
        "nothing": sorted(formats.NOTHING),
        "speakers": labels,
        "turns": [
            [start, end, number[who], f"{start:.3f} {end - start:.3f}", formats.times(start, end)]
            for start, end, who in turns.spans
        ],
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026")
