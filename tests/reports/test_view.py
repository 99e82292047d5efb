"""What a reader is told: verdicts in words, figures that are never rounded into a lie."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import made_results
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.parity.result import Result
from samevoice.reports.details import bug_lines, tensors, text
from samevoice.reports.tree import Branch, Line, tree
from samevoice.reports.view import View, shared_taps, view
from samevoice.reports.words import cosine, number, percent, ratio

NONSENSE: tuple[Any, ...] = (None, 3, "x", [], {}, [1, 2], {"a": 1}, [[None]], math.nan, True)


def figure(shown: View, name: str) -> tuple[str, bool]:
    return next((one.value, one.good) for one in shown.figures if one.name == name)


# The verdict --------------------------------------------------------------------------------------


def test_a_fast_result_says_what_it_costs_and_never_that_the_port_is_trusted() -> None:
    cost = {
        "shared_cosine_median": 0.985,
        "shared_cosine_min": 0.75,
        "der_exact": 0.0069,
        "seconds": 4.2,
        "seconds_exact": 10.5,
        "time_ratio": 0.4,
    }
    task = {"fast": cost}
    shown = view(replace(made_results.green("segmentation"), model_type="fast", task=task))
    assert [one.name for one in shown.figures] == [
        "Diarization that differs",
        "Likeness of voices",
        "Time",
    ]
    assert figure(shown, "Diarization that differs")[0] == "0.69 %"
    assert figure(shown, "Likeness of voices")[0] == "0.985"
    assert figure(shown, "Time")[0] == "0.40×"
    assert "trusted" not in shown.headline
    assert "fast configuration" in shown.headline


def test_a_green_result_may_be_trusted() -> None:
    shown = view(made_results.green("segmentation"))
    assert (shown.state, shown.word) == ("good", "passed")
    assert shown.headline == "This port may be trusted."
    assert "times PyTorch's" in shown.because
    assert figure(shown, "Frames decided alike") == ("100 %", True)
    assert figure(shown, "Taps that agree")[1]
    assert shown.failed == ()
    assert shown.diagnoses == ()


def test_coarse_weights_are_not_called_as_close_as_float32() -> None:
    result = made_results.coarse()
    because = view(result).because
    assert result.passed
    assert because.startswith(
        "At all 17 taps MLX is within the limits for float16 weights: its error "
    )
    assert "as close" not in because
    assert "as close" in view(made_results.green()).because


def test_a_figure_that_is_all_but_one_is_not_one() -> None:
    task = made_results.task_of("embedding")
    task["ranking"]["kendall_tau"] = 0.99996
    task["similarity"]["embedding_cosine_min"] = 1 - 2e-9
    shown = view(made_results.judged([made_results.tap("output")], task=task))
    said = {fact.name: fact.value for facts in shown.task for fact in facts.facts}
    assert said["Kendall's tau over all rankings"] == "1−4e-05"
    assert said["least cosine of a voice with itself"] == "1−2e-09"


@pytest.mark.parametrize("value", NONSENSE)
def test_frames_that_differ_may_be_anything(value: Any) -> None:
    flip = {"index": value, "reference": value, "candidate": value, "margin": value}
    agreement = {"flips_listed": [flip, value], "confusion": value, "decision_agreement": 1.0}
    red = made_results.red("segmentation", "lstm.0.forward")
    result = replace(red, task={"agreement": agreement})
    classes = {"timelines": {"x": {"classes": value}}}
    assert view(result).state == "bad"
    assert view(replace(result, details=classes)).state == "bad"


def test_a_red_result_names_where_and_why() -> None:
    result = made_results.red("segmentation", "lstm.0.forward")
    shown = view(result)
    first = result.verdict.failed[0]
    assert shown.state == "bad"
    assert shown.headline == "This port may not be trusted."
    assert first.label in shown.because
    times = ratio(first.judged_ratio)
    assert f"its error is {times} times PyTorch's own there, and at most 3 is" in shown.because
    assert not figure(shown, "Taps that agree")[1]
    assert shown.worst[0] is first
    assert shown.diagnoses


def test_a_task_that_fails_alone_is_said() -> None:
    shown = view(made_results.red_task())
    assert shown.state == "bad"
    assert shown.because.startswith("Every tap passes, but the task does not: decision_agreement")
    assert not figure(shown, "Frames decided alike")[1]


def test_nothing_compared_is_nothing_proven() -> None:
    empty = replace(made_results.copied(), taps=(), passed=False, task={})
    shown = view(empty)
    assert "nothing is proven" in shown.because
    assert figure(shown, "Taps that agree") == ("0 of 0", False)


def test_loosened_limits_ask_for_care_and_say_what_they_hide() -> None:
    shown = view(made_results.loosened())
    assert shown.state == "care"
    assert any(loose is not None for _, loose in shown.limits)
    hidden = "With the default limits" in shown.because
    assert hidden != ("It would pass with the default limits, too" in shown.because)


def test_copied_arrays_allow_no_error() -> None:
    shown = view(made_results.copied())
    assert "to the last bit" in shown.because
    assert figure(shown, "Largest error") == ("0", True)


def test_a_removed_limit_is_listed_in_red() -> None:
    result = made_results.green()
    gone = replace(
        made_results.loosened().loosened[0], metric="kendall_tau", where="task", tap=None
    )
    shown = view(replace(result, loosened=(gone,)))
    assert sum(loose is not None for _, loose in shown.limits) == 1


# The tree -----------------------------------------------------------------------------------------


def test_the_tree_holds_every_tap_once_and_in_order() -> None:
    result = made_results.red("segmentation", "lstm.0.forward")
    found = list(tree(result))
    assert [one.tap.key for one in found if isinstance(one, Line)] == [x.key for x in result.taps]
    assert {one.limit for one in found if isinstance(one, Line)} >= {"3"}


def test_a_branch_counts_what_is_below_it() -> None:
    result = made_results.red("segmentation", "lstm.0.forward")
    found = list(tree(result))
    at, lstm = next(
        (k, x) for k, x in enumerate(found) if isinstance(x, Branch) and x.path.startswith("lstm")
    )
    below = []
    for one in found[at + 1 :]:
        if one.depth <= lstm.depth:
            break
        below.append(one)
    taps = [one.tap for one in below if isinstance(one, Line)]
    assert lstm.taps == len(taps)
    assert lstm.failed == sum(not tap.passed for tap in taps) > 0
    assert lstm.worst == max(tap.judged_ratio for tap in taps)


NAMES = st.lists(st.text("ab.", max_size=8), min_size=1, max_size=12)


@given(NAMES)
def test_any_names_make_a_tree(names: list[str]) -> None:
    template = made_results.copied()
    taps = tuple(replace(template.taps[0], name=f"{k}.{x}") for k, x in enumerate(names))
    again = tuple(replace(tap, input=str(k)) for k, tap in enumerate(taps * 2))
    found = list(tree(replace(template, taps=again)))
    assert [x.tap.key for x in found if isinstance(x, Line)] == [tap.key for tap in again]


# What stands in a result's free parts -------------------------------------------------------------


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_nonsense_in_the_details_is_left_out(nonsense: Any) -> None:
    keys = ("tensors", "gallery", "seconds", "errors", "voices", "diarization", "reproduction")
    for key in keys:
        shown = view(replace(made_results.green(), details={key: nonsense}))
        assert shown.tensors is None
        assert shown.gallery == ()


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_nonsense_in_the_task_is_left_out(nonsense: Any) -> None:
    for family in ("segmentation", "embedding"):
        result = made_results.green("segmentation" if family == "segmentation" else "embedding")
        for section, figures in result.task.items():
            task = {**result.task, section: dict.fromkeys(figures, nonsense)}
            changed = replace(result, task=task)
            shown = view(replace(changed, passed=changed.verdict.passed))
            assert shown.flips == ()


def test_the_tally_is_read() -> None:
    found = tensors(
        {
            "counts": {"dropped": 2, "used": 38},
            "derived": [["b", "b + c", "d"], ["too", "short"]],
            "dropped": [{"why": "a counter", "names": ["n1", "n2"]}],
            "assumed": ["stride 10"],
        }
    )
    assert found is not None
    assert found["said"] == "38 used, 2 dropped"
    assert found["derived"] == [["b", "b + c", "d"]]
    assert found["dropped"][0]["names"] == ["n1", "n2"]


def test_a_bug_without_a_name_is_none() -> None:
    good = {"bug": "x", "found": "a", "where": "a", "noise_ratio": 5, "right": True}
    lines = list(bug_lines([good, {"effect": "y"}, "z", {**good, "right": "yes"}]))
    assert [(one["bug"], one["right"]) for one in lines] == [("x", True), ("x", False)]


def test_flips_name_their_classes() -> None:
    result = made_results.green("segmentation")
    flip = {"index": [3], "reference": 1, "candidate": 6, "margin": 0.1, "within_noise": False}
    task = {"agreement": {**result.task["agreement"], "flips_listed": [flip]}}
    names = ["none", "1", "2", "3", "1+2", "1+3", "2+3"]
    bare, known = (
        view(replace(result, task=task, details=details)).flips[0]
        for details in ({}, {"timelines": {"a": {"classes": names}}})
    )
    assert (bare["reference"], bare["candidate"]) == ("1", "6")
    assert (known["place"], known["reference"], known["candidate"]) == ("3", "1", "2+3")


def test_nearest_voices_are_those_of_the_matrices() -> None:
    result = made_results.green()
    shown = view(replace(result, details={"voices": list("aabbcc")}))
    table = result.task["similarity"]["reference"]
    for k, one in enumerate(shown.rankings):
        best = max((x, j) for j, x in enumerate(table[k]) if j != k)[1]
        assert one["reference"] == f"{best}: {'aabbcc'[best]}"
        assert one["same"]


# Several ------------------------------------------------------------------------------------------


def test_shared_taps_are_those_that_two_results_hold() -> None:
    names = ("a", "b")
    results: tuple[Result, ...] = (made_results.green(), made_results.red())
    views = [view(result, name) for result, name in zip(results, names, strict=True)]
    rows = shared_taps(views)
    assert {row.label for row in rows} == {tap.label for tap in results[0].taps}
    assert any(row.failed for row in rows)
    assert shared_taps([views[0], view(made_results.copied(), "c")]) == ()


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (4666, "4,666"),
        (0.5, "0.5"),
        (2.13e-7, "2.13e-07"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "–"),
    ],
)
def test_numbers_are_short(value: float, said: str) -> None:
    assert number(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.0, "1.00"), (4271.3, "4,271"), (77.31, "77.3"), (2.5e6, "2.50e+06"), (math.inf, "∞")],
)
def test_ratios_line_up(value: float, said: str) -> None:
    assert ratio(value) == said


@given(st.floats(0.0, 1.0))
def test_only_all_of_it_is_a_hundred_percent(share: float) -> None:
    assert (percent(share) == "100 %") == (share == 1.0)
    assert (percent(share) == "0 %") == (share == 0.0)


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.5, "50 %"), (0.125, "12.5 %"), (0.998285, "99.83 %"), (0.99999, "99.999 %"),
     (1 - 1e-12, "almost 100 %"), (1e-12, "almost 0 %"), (-math.inf, "–")],
)  # fmt: skip
def test_shares_are_short(share: float, said: str) -> None:
    assert percent(share) == said


@given(st.floats(-1.0, 1.0))
def test_only_one_is_a_cosine_of_one(value: float) -> None:
    assert (cosine(value) == "1") == (abs(1.0 - value) < 1e-14)


def test_only_words_and_numbers_are_text() -> None:
    assert [text(x) for x in ("a", 3, 2.5, None, True, [1], {"a": 1})] == [
        "a", "3", "2.5", "", "", "", "",
    ]  # fmt: skip
