"""Plots: they show what the figures say, repeat to the byte, and survive what they are given."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import made_results
import matplotlib
import numpy as np
import pytest

from samevoice.parity.result import Result
from samevoice.reports import canvas, plots, style
from samevoice.reports.canvas import NothingToDrawError, Plot
from samevoice.reports.plots.errors import POINTS, comparison, histogram, ladder, scatter, thinned
from samevoice.reports.plots.task import (
    confusion,
    diarizations,
    differing,
    matched,
    similarities,
    timelines,
)
from samevoice.reports.view import view

TIMELINE = {
    "step": 0.5,
    "start": 0.25,
    "classes": ["none", "1", "2"],
    "reference": [[0, 4], [1, 6]],
    "candidate": [[0, 5], [1, 5]],
}
DIARIZATION = {
    "duration": 10.0,
    "waveform": [[-0.5, 0.5], [-0.1, 0.2]],
    "reference": [[0.0, 4.0, "A"], [3.0, 9.0, "B"]],
    "candidate": [[0.0, 4.0, "x"], [3.0, 8.0, "y"]],
    "der": 0.1,
}


def with_details(**details: Any) -> Result:
    return replace(made_results.green("segmentation"), details=details)


def words(plot: Plot) -> str:
    """What is drawn as text, which is neither the picture's name nor its style."""
    root = ElementTree.fromstring(plot.file.encode())
    drawn = root.iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(one.itertext()) for one in drawn)


def test_the_ladder_marks_the_first_divergence() -> None:
    result = made_results.red("segmentation", "lstm.0.forward")
    plot = ladder(result)
    said = words(plot)
    assert "first divergence: lstm.0.forward" in said
    assert {"limit", "PyTorch float32", "MLX", "breaks its limit"} <= set(
        re.split(r"\s{2,}|\n", said)
    )
    assert "lstm.0.forward" in plot.alt
    assert "RMS error / RMS of truth" in said


def test_a_green_ladder_marks_nothing() -> None:
    plot = ladder(made_results.green("segmentation"))
    assert "first divergence" not in words(plot)
    assert "at most" in plot.alt


def test_the_same_result_gives_the_same_bytes() -> None:
    result = made_results.red()
    assert ladder(result) == ladder(result)
    assert "dc:date" not in ladder(result).svg


@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_decisions_longer_than_any_recording_are_not_unfolded(side: str) -> None:
    result = with_details(timelines={"x": {**TIMELINE, side: [[0, 10**12]]}})
    with pytest.raises(NothingToDrawError, match="do not fit"):
        timelines(result)


def test_the_caption_counts_the_points_that_are_drawn() -> None:
    pairs = [[float(k), float(k) + 0.1] for k in range(4000)]
    plot = scatter(with_details(scatter={"x": pairs}))
    assert plot.caption.startswith("1,020 values of the output")


def test_matplotlib_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    histogram(made_results.green())
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("make", [made_results.not_a_number, made_results.infinite])
def test_what_is_not_finite_is_drawn_at_the_edge(make: Callable[[], Result]) -> None:
    assert "breaks its limit" in words(ladder(make()))
    assert "MLX at" in words(histogram(make()))


def test_exact_copies_have_nothing_to_draw() -> None:
    with pytest.raises(NothingToDrawError, match="every value is exact"):
        ladder(made_results.copied())


def test_names_are_drawn_as_they_are_and_nothing_more() -> None:
    names = ("$x^2$", "<script>", "a]]>b", "\x00\x1b", "$\\frac{1}{0")
    template = made_results.red()
    taps = tuple(
        replace(tap, name=name, input="sample", mode="free")
        for tap, name in zip(template.taps, names, strict=False)
    )
    plot = ladder(replace(template, taps=taps, first_divergence="$x^2$"))
    said = words(plot)
    for name in ("$x^2$", "<script>", "a]]>b", "\\x00\\x1b"):
        assert name in said
    assert "<script" not in plot.svg


def test_thousands_of_taps_stay_small() -> None:
    plot = ladder(made_results.many(3000))
    assert len(plot.svg) < 200_000


def test_of_many_points_the_worst_stay() -> None:
    ys = np.ones(50_000)
    ys[31_337] = 1e6
    xs, kept = thinned(np.arange(50_000.0), ys)
    assert len(xs) <= POINTS
    assert kept.max() == 1e6


def test_the_scatter_leaves_out_what_is_not_finite() -> None:
    pairs = [[0.0, 0.1], [1.0, 1.0], [math.nan, 1.0], [2.0, math.inf]]
    plot = scatter(with_details(scatter={"sample": pairs}))
    assert "2 samples that are not finite are left out" in plot.caption
    assert "at most 0.1" in plot.alt


def test_timelines_count_the_frames_that_differ() -> None:
    plot = timelines(with_details(timelines={"a": TIMELINE}))
    assert "1 frame" in plot.caption
    assert "they differ" in words(plot)
    same = {**TIMELINE, "candidate": TIMELINE["reference"]}
    assert "No frame differs" in timelines(with_details(timelines={"a": same})).caption


def test_recordings_that_differ_are_drawn_first() -> None:
    same = {**TIMELINE, "candidate": TIMELINE["reference"]}
    many = {f"same {k}": same for k in range(9)} | {"other": TIMELINE}
    plot = timelines(with_details(timelines=many))
    assert "other" in words(plot)
    assert "more are left out" in plot.caption


def test_similarities_show_what_changed() -> None:
    plot = similarities(made_results.red())
    assert "MLX − PyTorch" in words(plot)
    assert "Kendall" in plot.caption
    assert "data:image/png;base64" in plot.svg


def test_the_confusion_counts_what_is_off_the_diagonal() -> None:
    result = made_results.green("segmentation")
    table = [[5, 2], [0, 7]]
    task = {"agreement": {**result.task["agreement"], "confusion": table}}
    plot = confusion(replace(result, task=task))
    assert "12 of 14 frames lie on the diagonal" in plot.alt


def test_diarizations_say_how_much_differs() -> None:
    plot = diarizations(with_details(diarization={"call.wav": DIARIZATION}))
    assert "call.wav: 2 speakers, 1.00 s of 10.0 s differ, error rate 10.00 %" in plot.alt


def test_speakers_are_matched_by_the_time_they_share() -> None:
    reference = [(0.0, 5.0, "A"), (5.0, 9.0, "B")]
    swapped = [(0.0, 5.0, "B"), (5.0, 9.0, "A"), (9.0, 9.5, "C")]
    assert matched(reference, swapped) == {"B": "A", "A": "B", "C": "C (only here)"}
    assert differing(reference, [(0.0, 5.0, "A"), (5.0, 8.0, "B")]) == [(8.0, 9.0)]
    assert differing(reference, reference) == []


@pytest.mark.parametrize(
    "nonsense",
    [None, 3, "x", [], [1], {"a": 3}, {"a": {"step": 1}}, {"a": {**TIMELINE, "step": "x"}},
     {"a": {**TIMELINE, "reference": [[9, 4]]}}, {"a": {**TIMELINE, "candidate": [[0, -1]]}},
     {"a": {**TIMELINE, "reference": [[0, 10**12]]}}, {"a": {**DIARIZATION, "duration": 0}},
     {"a": {**DIARIZATION, "waveform": [[1]]}}, {"a": [["x", 1]]}, {"a": [[1.0]]}],
    ids=lambda one: str(one)[:40],
)  # fmt: skip
def test_nonsense_costs_its_picture_only(nonsense: Any) -> None:
    result = with_details(scatter=nonsense, timelines=nonsense, diarization=nonsense)
    task = {**result.task, "similarity": {"reference": nonsense, "candidate": nonsense}}
    keys = ("scatter", "timelines", "diarizations", "similarities")
    found = [one for one in plots.plots(replace(result, task=task)) if one.key in keys]
    assert len(found) == 4
    assert not any("nan" in one.svg for one in found if isinstance(one, Plot))


def test_several_results_are_compared_by_tap() -> None:
    views = [view(made_results.green(), "one"), view(made_results.red(), "two")]
    assert {"one", "two"} <= set(words(comparison(views)).split())
    with pytest.raises(NothingToDrawError, match="share no tap"):
        comparison([views[0], view(made_results.copied(), "three")])


def test_pictures_on_one_page_do_not_share_ids() -> None:
    one = histogram(made_results.green())
    moved = one.within("r2")
    ids = set(re.findall(r'\bid="([^"]*)"', one.svg))
    assert ids
    assert ids.isdisjoint(re.findall(r'\bid="([^"]*)"', moved.svg))
    for used in re.findall(r'(?:url\(#|href="#)([^")]*)', moved.svg):
        assert f'id="{used}"' in moved.svg


def test_a_figure_without_room_says_nothing_on_the_terminal() -> None:
    """Figures from a file may leave no room; matplotlib warns of that in words of its own."""
    figure = canvas.figure_of(0.05)
    axes = figure.add_subplot()
    axes.set_title("a title")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert canvas.plot_of(figure, "caption", "alt", key="key", title="title").svg


def test_a_picture_alone_follows_light_and_dark() -> None:
    plot = histogram(made_results.green())
    assert "prefers-color-scheme:dark" in plot.file
    assert "<style" not in plot.svg.split("</title>")[0]
    for name in style.VARIABLES.values():
        assert name in style.LIGHT
        assert name in style.DARK
    assert not re.search(r"#(0[1-9])\1\1\b", plot.svg)
    assert "var(--mlx" in plot.svg


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colours", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_colours_stand_out(colours: dict[str, str]) -> None:
    """4.5 to 1 for whatever is read, as WCAG AA asks."""
    ground = luminance(colours["paper"])
    for name in ("ink", "muted", "torch", "mlx", "bad", "limit"):
        high, low = sorted((luminance(colours[name]), ground), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, name
