"""Turns as a picture: a lane a speaker below the waveform, as SVG that needs no library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from samevoice.models.diarization.output import Turns

WIDTH, MARGIN, WAVE, LANE, AXIS = 1000, 150, 80, 26, 30
# Okabe and Ito's colours, told apart by every kind of eye, on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
STYLE = """
  .page { fill: #ffffff } .ink { fill: #24292f } .wave { stroke: #8c959f } .grid { stroke: #d0d7de }
  text { font: 13px system-ui, sans-serif }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .ink { fill: #e6edf3 } .wave { stroke: #6e7681 }
    .grid { stroke: #30363d }
  }
"""


def envelope(
    blocks: Iterable[NDArray[np.float32]], duration: float, rate: int = 16_000, columns: int = 800
) -> NDArray[np.float32]:
    """Blocks of audio -> (columns,): the loudest sample in each, from 0 to 1."""
    loudest = np.zeros(columns, np.float32)
    total = max(1, round(duration * rate))
    at = 0
    for block in blocks:
        places = np.arange(at, at + len(block), dtype=np.int64) * columns // total
        np.maximum.at(loudest, np.minimum(places, columns - 1), np.abs(block))
        at += len(block)
    return np.minimum(loudest, 1.0)


def draw(turns: Turns, loudness: NDArray[np.float32], duration: float) -> str:
    """The picture of one recording, readable on light and dark pages; without sound, its lanes."""
    labels = turns.labels()
    height = WAVE + LANE * max(1, len(labels)) + AXIS
    top = 0 if len(loudness) else WAVE
    scale = (WIDTH - MARGIN - 10) / max(duration, 1e-3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {top} {WIDTH} {height - top}" '
        'role="img">',
        f"<title>{title(turns)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        *_axis(duration, scale, height),
        _wave(loudness),
        *_lanes(turns, labels, scale),
        "</svg>\n",
    ]
    return "\n".join(parts)


def title(turns: Turns) -> str:
    return f"Who speaks when in {shown(turns.uri or 'this recording')}"


def shown(name: str) -> str:
    """A name in XML, which has no control characters, not even as entities."""
    return escape("".join(c if c.isprintable() else " " for c in name))


def _axis(duration: float, scale: float, height: int) -> Iterator[str]:
    step = next(s for s in steps() if duration / s <= 10)
    for number in range(math.floor(duration / step) + 1):
        x = MARGIN + number * step * scale
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - AXIS + 4}"/>'
        place = "end" if x > WIDTH - 40 else "middle"
        label = clock(number * step)
        yield _label(x, height - 10, place, label)


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="ink" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>'


def steps() -> Iterator[float]:
    """Round distances between two marks, in seconds: 0.1, 0.2, 0.5, 1, ... hours."""
    yield from (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
    hours = 1
    while True:
        yield 3600 * hours
        hours *= 2


def clock(seconds: float) -> str:
    """A mark's time."""
    if seconds != int(seconds):
        return f"{seconds:g} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _wave(loudness: NDArray[np.float32]) -> str:
    """As loud as the recording is: the loudest sample fills the lane."""
    top = float(loudness.max(initial=0.0)) or 1.0
    step = (WIDTH - MARGIN - 10) / max(1, len(loudness))
    middle, half = WAVE / 2, WAVE / 2 - 6
    strokes = (
        f"M{MARGIN + (n + 0.5) * step:.1f} {middle - x:.1f}v{2 * x:.1f}"
        for n, x in enumerate(np.maximum(loudness / top * half, 0.3))
    )
    return f'<path class="wave" d="{"".join(strokes)}"/>'


def _lanes(turns: Turns, labels: list[str], scale: float) -> Iterator[str]:
    for number, label in enumerate(labels):
        y, colour = WAVE + LANE * number, COLOURS[number % len(COLOURS)]
        short = label if len(label) <= 18 else f"{label[:17]}…"
        yield _label(MARGIN - 10, y + 18, "end", shown(short))
        for turn, who in turns:
            if who != label:
                continue
            x, width = MARGIN + turn.start * scale, max(turn.duration * scale, 0.5)
            said = f"{shown(label)}: {turn.start:.3f} to {turn.end:.3f} s"
            yield (
                f'<rect x="{x:.2f}" y="{y + 4}" width="{width:.2f}" height="{LANE - 8}" rx="2" '
                f'fill="{colour}"><title>{said}</title></rect>'
            )
