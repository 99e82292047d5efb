"""What an evaluation found: the rate of each recording, and who speaks when in the worst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

# Before matplotlib itself: it says what to install where there is none.
from samevoice.reports.canvas import (  # isort: split
    NothingToDrawError,
    as_strips,
    boxes,
    drawing,
    figure_of,
    label,
    legend_above,
    rows_of,
)

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samevoice.evaluation.corpus import Regions
from samevoice.evaluation.evaluated import LABELS, Evaluation
from samevoice.evaluation.scores import STRICT
from samevoice.evaluation.several import Line
from samevoice.parity.metrics import Array
from samevoice.parity.pipeline.outcome import mapped
from samevoice.reports.plots.task import Turns, differing, draw_turns
from samevoice.reports.style import MLX, MUTED, SOFT, TORCH, WRONG
from samevoice.reports.text import visible

NAMED = 40  # recordings that are drawn with their names
POINTS = 500  # of a curve over more of them
HIGHEST = 200  # per cent
STEPS = 1000  # of a timeline
# B is hollow and larger, so that an A in the same place is seen.
LOOKS: tuple[tuple[str, dict[str, Any]], ...] = (
    (TORCH, {"marker": "o"}),
    (MLX, {"marker": "D", "fillstyle": "none", "ms": 5.5}),
)
AGAINST = "B against A"


# The rate of each recording -----------------------------------------------------------------------


@drawing("ders", "DER of each recording")
def ders(made: Evaluation) -> tuple[Figure, str, str]:
    """A dot a recording and system; of very many recordings, their distribution."""
    found = _rates(made)
    count = len(made.recordings)
    top = max(10.0, *(float(values.max()) for values in found.values()))
    edge = "" if top <= HIGHEST else f" What is above {HIGHEST} % is drawn at the edge."
    shown = {name: np.minimum(values, HIGHEST) for name, values in found.items()}
    names = [one.uri for one in made.recordings]
    figure, how = _named(names, shown) if count <= NAMED else _many(shown)
    said = ", ".join(
        f"{name} from {values.min():.1f} to {values.max():.1f} %, half of them at most "
        f"{np.median(values):.1f} %"
        for name, values in found.items()
    )
    return figure, how + edge, f"DER of {count} recordings: {said}."


def _rates(made: Evaluation) -> dict[str, Array]:
    """(R,) in per cent of each system; of the pair where there are no references."""
    if not made.corpus.referenced:
        return {AGAINST: np.array([100 * one.der for one in made.disagreements])}
    return {
        name: np.array([100 * one.scores.strict.der for one in column if one.scores])
        for name, column in zip(LABELS, made.columns, strict=False)
    }


def _named(names: Sequence[str], shown: Mapping[str, Array]) -> tuple[Figure, str]:
    figure = figure_of(0.19 * len(names) + 0.9)
    axes = figure.subplots()
    first, *others = shown.values()
    order = np.argsort(first, kind="stable")
    rows = np.arange(len(names))
    for other in others:
        axes.hlines(rows, first[order], other[order], color=MUTED, lw=1.0)
    for (name, values), (colour, look) in zip(shown.items(), LOOKS, strict=False):
        axes.plot(values[order], rows, color=colour, label=name, ls="none", clip_on=False, **look)
    axes.set_yticks(rows, [label(names[at]) for at in order])
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlim(0.0, 1.04 * max(10.0, *(values.max() for values in shown.values())))
    axes.set_xlabel("DER, %")
    if others:
        legend_above(axes, 1.0 + 0.1 / len(names), ncols=2)
        return figure, "One line is one recording, the highest DER of A at the top."
    return figure, "One dot is one recording, the highest at the top."


def _many(shown: Mapping[str, Array]) -> tuple[Figure, str]:
    figure = figure_of(2.8)
    left, *right = figure.subplots(1, len(shown), squeeze=False)[0]
    for (name, values), (colour, _) in zip(shown.items(), LOOKS, strict=False):
        left.plot(*_sorted(values), color=colour, label=name)
    left.set_ylabel("DER, %")
    how = "All recordings in order of their DER: so many have at most this one."
    if right:
        a, b = shown.values()
        legend_above(left, ncols=2)
        right[0].axhline(0.0, color=MUTED, lw=0.8)
        right[0].fill_between(*_sorted(b - a), color=MLX, alpha=0.7, lw=0.6)
        right[0].set_ylabel("DER of B - A, points")
        how += " At the right, in order of the change: below zero B is better."
    for axes in (left, *right):
        axes.set_xlabel("recordings, %")
        axes.set_xlim(0, 100)
    return figure, how


def _sorted(values: Array) -> tuple[Array, Array]:
    """Shares of the recordings, and what they have at most."""
    shares = np.linspace(0, 100, min(len(values), POINTS))
    return shares, np.percentile(values, shares)


@drawing("beside", "DER of each system")
def beside(lines: Sequence[Line]) -> tuple[Figure, str, str]:
    """A dot a system and corpus, and its interval."""
    rated = [(one, one.said[STRICT]["micro"]) for one in lines[::-1] if STRICT in one.said]
    if not rated:
        raise NothingToDrawError("no evaluation has references")
    figure = figure_of(0.24 * len(rated) + 0.8)
    axes = figure.subplots()
    for row, (_, der) in enumerate(rated):
        if der["low"] is not None:
            axes.hlines(row, 100 * der["low"], 100 * der["high"], color=MUTED, lw=1.6)
        axes.plot(100 * der["value"], row, color=TORCH, marker="o", ls="none", clip_on=False)
    axes.set_yticks(range(len(rated)), [f"{label(x.system)}, {label(x.corpus)}" for x, _ in rated])
    axes.set_ylim(-0.7, len(rated) - 0.3)
    axes.set_xlim(0.0, None)
    axes.set_xlabel("DER, %")
    said = ", ".join(
        f"{visible(x.system)} on {visible(x.corpus)} {der['value']:.1%}" for x, der in rated[::-1]
    )
    return figure, "A dot is the DER over all speech, its line the 95% interval.", f"DER: {said}."


# Who speaks when ----------------------------------------------------------------------------------


@drawing("lanes", "Who speaks when")
def lanes(made: Evaluation, chosen: Sequence[int]) -> tuple[Figure, str, str]:
    """The reference, A and B of these recordings below each other, differences marked."""
    strips = len(made.systems) + made.corpus.referenced
    figure, rows = rows_of(len(chosen), 0.36 * strips + 0.5, 0.3)
    said = [_draw(axes, made, at) for axes, at in zip(rows, chosen, strict=True)]
    rows[-1].set_xlabel("time, s")
    first = "the reference" if made.corpus.referenced else "A"
    grey = " Grey parts are not scored." if any(_gaps(made, at) for at in chosen) else ""
    return (
        figure,
        "One colour and one letter is one speaker. Labels are paired for the least error, as for "
        f"the DER. Below a strip is marked where it differs from {first}.{grey}",
        "Timelines. " + " ".join(said),
    )


def _draw(axes: Axes, made: Evaluation, at: int) -> str:
    """One recording; what is to be seen in words."""
    recording, results = made.recordings[at], [column[at] for column in made.columns]
    duration, scored = results[0].duration, results[0].scored
    sides = {"reference": recording.reference.spans} if made.corpus.referenced else {}
    sides |= {name: one.turns.spans for name, one in zip(LABELS, results, strict=False)}
    named = alike(list(sides.values()))
    speakers = list(dict.fromkeys(who for turns in named for *_, who in turns))
    bottom = -0.6 * (len(sides) - 1) - 0.45
    boxes(axes, _gaps(made, at), (bottom, 0.75 - bottom), SOFT)
    words = []
    for k, (side, turns) in enumerate(zip(sides, named, strict=True)):
        draw_turns(axes, joined(turns, duration / STEPS), speakers, 0.4 - 0.6 * k, duration)
        apart = _within(differing(named[0], turns), scored) if k else []
        marks = joined([(a, b, "") for a, b in apart], duration / STEPS)
        boxes(axes, [(a, b) for a, b, _ in marks], (0.4 - 0.6 * k - 0.34, 0.1), WRONG)
        words += [f"{side} differs for {sum(b - a for a, b in apart):.1f} s"] if k else []
    title = f"{label(recording.uri, 50)}{_figures(made, at)}"
    as_strips(axes, title, {0.4 - 0.6 * k: side for k, side in enumerate(sides)})
    axes.set_xlim(0.0, duration)
    axes.set_ylim(bottom + 0.4, 0.72)
    name = visible(recording.uri)
    return f"{name}: {len(speakers)} speakers in {duration:.1f} s, {', '.join(words)}."


def _figures(made: Evaluation, at: int) -> str:
    if not made.corpus.referenced:
        return f": B {made.disagreements[at].der:.1%} from A"
    scores = [column[at].scores for column in made.columns]
    shown = (
        f"{name} {one.strict.der:.1%}" for name, one in zip(LABELS, scores, strict=False) if one
    )
    return f": DER {', '.join(shown)}"


def alike(sides: Sequence[Turns]) -> list[Turns]:
    """All sides with the labels of the first; who is in none before keeps another name."""
    first, *others = sides
    known = {who for *_, who in first}
    named = [first]
    more: Turns = []
    for turns in others:
        found = mapped(first, turns)
        # Speakers whom the first does not have are paired among the other sides.
        rest = [one for one in found if one[2] not in known]
        rest = mapped(more, rest) if more else rest
        more += rest
        named.append([one for one in found if one[2] in known] + rest)
    return named


def joined(turns: Turns, step: float) -> Turns:
    """On a grid too fine to be seen, without gaps, so that hours of talk stay small."""
    last: dict[str, list[float]] = {}
    found = []
    for start, end, who in sorted(turns):
        first = round(start / step)
        behind = max(round(end / step), first + 1)
        if who in last and first <= last[who][1]:
            last[who][1] = max(last[who][1], behind)
        else:
            last[who] = [first, behind]
            found.append((who, last[who]))
    return [(start * step, end * step, who) for who, (start, end) in found]


def _gaps(made: Evaluation, at: int) -> list[tuple[float, float]]:
    """What of a recording is not scored."""
    one = made.columns[0][at]
    edges = [0.0, *(time for region in one.scored for time in region), one.duration]
    return [(a, b) for a, b in list(pairwise(edges))[::2] if b - a > one.duration / STEPS]


def _within(spans: Iterable[tuple[float, float]], scored: Regions) -> list[tuple[float, float]]:
    cut = ((max(a, start), min(b, end)) for a, b in spans for start, end in scored)
    return [(a, b) for a, b in cut if b > a]
