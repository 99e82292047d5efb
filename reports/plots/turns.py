"""Both diarizations of a recording, over its waveform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from samevoice.parity.result import Result
from samevoice.reports.canvas import (
    NothingToDrawError,
    as_strips,
    boxes,
    drawing,
    label,
    rows_of,
)
from samevoice.reports.details import mapping, sequence, text
from samevoice.reports.style import MUTED, PALETTE, WRONG
from samevoice.reports.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECORDINGS = 6  # drawn in one plot
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TITLES = {"truth": "truth", "reference": "PyTorch", "candidate": "MLX"}

Turns: TypeAlias = list[tuple[float, float, str]]


@drawing("diarizations", "Who speaks when")
def diarizations(result: Result) -> tuple[Figure, str, str]:
    """Both diarizations over the waveform, differences marked."""
    found = list(mapping(result.details.get("diarization")).items())[:RECORDINGS]
    if not found:
        raise NothingToDrawError("the result holds no diarization")
    figure, rows = rows_of(len(found), 1.75, 0.5)
    said = [_draw(axes, visible(name), one) for axes, (name, one) in zip(rows, found, strict=True)]
    rows[-1].set_xlabel("time, s")
    return (
        figure,
        "The speakers that each framework finds, over the waveform; one colour and one letter is "
        "one speaker. Both strips must show the same turns; where they differ is marked below "
        "them. Slivers at the edges of turns are harmless, whole turns are not.",
        "Diarizations of PyTorch and MLX over the waveform. " + " ".join(said),
    )


def _draw(axes: Axes, name: str, one: Any) -> str:
    """One recording; what is to be seen in words."""
    duration = float(one["duration"])
    if not 0 < duration < 1e7:
        raise NothingToDrawError(f"a duration of {duration:g} s cannot be drawn")
    sides = {side: _turns(one[side]) for side in TITLES if side in one or side != "truth"}
    spans = _name_alike(sides)
    speakers = list(dict.fromkeys(who for turns in sides.values() for _, _, who in turns))
    _draw_waveform(axes, sequence(one.get("waveform")), duration)
    middles = {side: -0.35 - 0.5 * k for k, side in enumerate(sides)}
    for side, y in middles.items():
        _draw_turns(axes, sides[side], speakers, y)
        _letter(axes, sides[side], speakers, y, duration)
    bottom = min(middles.values())
    boxes(axes, spans, (bottom - 0.42, 0.14), WRONG)
    rate = one.get("der")
    der = f", error rate {100 * float(rate):.2f} %" if isinstance(rate, int | float) else ""
    strips = {0.5: "waveform", **{y: TITLES[side] for side, y in middles.items()}}
    as_strips(axes, f"{label(name, 50)}{der}", {**strips, bottom - 0.35: "they differ"})
    axes.set_xlim(0.0, duration)
    axes.set_ylim(bottom - 0.5, 1.05)
    apart = sum(b - a for a, b in spans)
    return f"{name}: {len(speakers)} speakers, {apart:.2f} s of {duration:.1f} s differ{der}."


def _turns(found: Any) -> Turns:
    turns = [(float(a), float(b), text(who)) for a, b, who in found]
    return [turn for turn in turns if 0 <= turn[0] < turn[1] < 1e7]


def _name_alike(sides: dict[str, Turns]) -> list[tuple[float, float]]:
    """Name every side's speakers as the reference does; when the two frameworks differ."""
    for side in sides.keys() - {"reference"}:
        named = matched(sides["reference"], sides[side])
        sides[side] = [(a, b, named[who]) for a, b, who in sides[side]]
    return differing(sides["reference"], sides["candidate"])


def _draw_turns(axes: Axes, turns: Turns, speakers: Sequence[str], middle: float) -> None:
    """One strip; where several speak at once they share its height."""
    found: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
    for a, b, active in _stretches(turns):
        heard = [who for who in speakers if who in active]
        for lane, who in enumerate(heard):
            found.setdefault((who, lane, len(heard)), []).append((a, b))
    for (who, lane, count), spans in found.items():
        share = 0.4 / count
        colour = PALETTE[speakers.index(who) % len(PALETTE)]
        boxes(axes, spans, (middle + 0.2 - (lane + 1) * share, share), colour)


def _letter(axes: Axes, turns: Turns, speakers: Sequence[str], y: float, duration: float) -> None:
    """A letter in each turn that is wide enough: colour alone does not say who it is."""
    for a, b, who in turns:
        if b - a > 0.03 * duration:
            letter = LETTERS[speakers.index(who) % 26]
            axes.text(
                (a + b) / 2, y, letter, fontsize=6.5, color="#000000", ha="center", va="center"
            )


def _draw_waveform(axes: Axes, waveform: Sequence[Any], duration: float) -> None:
    if not waveform:
        return
    pairs = np.clip(np.array([[float(a), float(b)] for a, b in waveform[:2000]]), -1.0, 1.0)
    x = (np.arange(len(pairs)) + 0.5) * duration / len(pairs)
    low, high = (0.5 + 0.5 * pairs[:, k] for k in (0, 1))
    axes.fill_between(x, low, high, color=MUTED, lw=0, alpha=0.7)


# Turns of several sides ---------------------------------------------------------------------------


def _stretches(*sides: Turns) -> list[tuple[Any, ...]]:
    """(start, end, who speaks on each side), between all edges of turns."""
    edges = sorted({x for turns in sides for a, b, _ in turns for x in (a, b)})
    starts = sorted((a, b, who, k) for k, turns in enumerate(sides) for a, b, who in turns)
    found: list[tuple[Any, ...]] = []
    active: list[tuple[float, str, int]] = []
    at = 0
    for a, b in pairwise(edges):
        while at < len(starts) and starts[at][0] <= a:
            active.append(starts[at][1:])
            at += 1
        active = [one for one in active if one[0] > a]
        who = ({w for _, w, k in active if k == side} for side in range(len(sides)))
        found.append((a, b, *who))
    return found


def matched(reference: Turns, candidate: Turns) -> Mapping[str, str]:
    """Candidate's speaker -> the reference's with whom it shares most time."""
    shared: dict[tuple[str, str], float] = {}
    for a, b, ours, theirs in _stretches(reference, candidate):
        for pair in product(ours, theirs):
            shared[pair] = shared.get(pair, 0.0) + b - a
    named: dict[str, str] = {}
    for (ours, theirs), _ in sorted(shared.items(), key=lambda one: (-one[1], one[0])):
        if theirs not in named and ours not in named.values():
            named[theirs] = ours
    for _, _, theirs in candidate:
        named.setdefault(theirs, f"{theirs} (only here)" if theirs else "only here")
    return named


def differing(reference: Turns, candidate: Turns) -> list[tuple[float, float]]:
    """Stretches in which not the same speakers are active."""
    spans: list[tuple[float, float]] = []
    for a, b, ours, theirs in _stretches(reference, candidate):
        if ours == theirs:
            continue
        if spans and spans[-1][1] == a:
            a = spans.pop()[0]
        spans.append((a, b))
    return spans
