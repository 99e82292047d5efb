"""The table is complete, overrides say what they mean, and nothing is loosened unseen."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.errors import SamevoiceError
from samevoice.parity.bounds import (
    AT_MOST,
    METRICS,
    Limit,
    LimitsError,
    Override,
    overrides_from,
    parse_override,
    read_overrides,
)
from samevoice.parity.limits import (
    ALL_DEVICES,
    ALL_DTYPES,
    ALL_FAMILIES,
    Limits,
    limits_for,
    loosened,
    precision_of,
)
from samevoice.parity.task import compare_decisions

EMBEDDING = limits_for("embedding", "float32", "cpu")
SEGMENTATION = limits_for("segmentation", "float32", "cpu")


def bounds(limits: Limits, tap: str = "any", *, output: bool = False) -> dict[str, float]:
    return {name: limit.bound for name, limit in limits.at(tap, output=output).items()}


def overridden(limits: Limits, *texts: str) -> Limits:
    return limits.overridden(parse_override(text) for text in texts)


def test_the_defaults_for_float32_on_cpu_are_those_agreed() -> None:
    assert bounds(EMBEDDING) == {"noise_ratio": 3.0}
    assert bounds(EMBEDDING, output=True) == {"noise_ratio": 2.0, "cosine_min": 0.999999}
    assert {name: x.bound for name, x in EMBEDDING.for_task.items()} == {
        "embedding_cosine_min": 0.999999,
        "kendall_tau": 1.0,
    }
    assert {name: x.bound for name, x in SEGMENTATION.for_task.items()} == {
        "decision_agreement": 0.999,
        "agreement_beyond_noise": 1.0,
    }
    assert limits_for("generic", "float32", "cpu").for_task == {}


@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("device", ALL_DEVICES)
def test_every_combination_has_limits_that_mean_something(
    family: str, dtype: str, device: str
) -> None:
    limits = limits_for(family, dtype, device)
    assert "noise_ratio" in bounds(limits)
    assert all(math.isfinite(one.bound) and one.why for one in limits.limits)
    places = [(one.metric, one.where, one.tap) for one in limits.limits]
    assert len(places) == len(set(places))
    assert loosened(limits) == ()
    for one in limits.limits:
        assert METRICS[one.metric].low <= one.bound <= METRICS[one.metric].high


def test_a_tie_may_fall_either_way_and_nothing_else() -> None:
    """Of 4,666 decisions one lay within the noise and flipped, with one thread for two."""
    reference = np.zeros((4666, 2))
    reference[:, 0] = 1.0
    reference[0] = 0.0  # both classes alike
    tied, wrong = reference.copy(), reference.copy()
    tied[0, 1] = 1e-7
    wrong[1, 1] = 1.5
    for got, right in ((tied, True), (wrong, False)):
        task = compare_decisions(reference, got, truth=reference + 2.5e-7).sections()
        assert task["agreement"]["flips"] == 1
        for family in ("segmentation", "full"):
            limits = limits_for(family, "float32", "cpu").for_task
            names = ("decision_agreement", "agreement_beyond_noise")
            broken = [limits[name].violation(task["agreement"][name]) for name in names]
            assert (broken == [None, None]) is right


def test_derived_limits_say_so_and_are_never_stricter_than_float32() -> None:
    for family in set(ALL_FAMILIES) - {"full", "fast"}:
        # What float32 can decide binds nothing coarser.
        every = limits_for(family, "float32", "cpu").limits
        strict = [one for one in every if one.metric != "agreement_beyond_noise"]
        coarse = limits_for(family, "float32", "cuda-tf32").limits
        for old, new in zip(strict, coarse, strict=True):
            assert new.why.startswith("DERIVED")
            assert METRICS[new.metric].looser(new.bound, old.bound)


@pytest.mark.parametrize("family", ["segmentation", "embedding"])
def test_measured_limits_are_looser_at_taps_and_the_same_for_the_task(family: str) -> None:
    strict = limits_for(family, "float32", "cpu")
    tasks = []
    for dtype in ("float16", "bfloat16", "q8", "q4"):
        coarse = limits_for(family, dtype, "cpu")
        for output in (False, True):
            new = coarse.at("any", output=output)
            for metric, old in strict.at("any", output=output).items():
                assert METRICS[metric].looser(new[metric].bound, old.bound)
                assert "times the worst of right ports" in new[metric].why
        tasks.append({metric: limit.bound for metric, limit in coarse.for_task.items()})
    assert all(task == tasks[0] for task in tasks)
    assert tasks[0].keys() >= strict.for_task.keys() - {"agreement_beyond_noise"}


def test_half_a_percent_of_decisions_is_what_a_coarse_bundle_may_cost() -> None:
    assert limits_for("segmentation", "q4", "cpu").for_task["decision_agreement"].bound == 0.995
    assert limits_for("embedding", "bfloat16", "cpu").for_task["similarity_gap"].bound == 0.02


def test_stages_on_the_host_keep_their_limits_in_every_precision() -> None:
    strict = limits_for("full", "float32", "cpu")
    host = [one for one in strict.limits if one.metric == "max_abs"]
    assert {one.bound for one in host if one.tap in ("masks", "ahc", "hard", "turns")} == {0.0}
    for dtype, device in (("float32", "cuda-tf32"), ("float16", "cpu"), ("q4", "cpu")):
        coarse = limits_for("full", dtype, device)
        assert [one for one in coarse.limits if one.metric == "max_abs"] == host
        assert coarse.for_task["der"].bound == 0.01
        assert "unexplained_der" not in coarse.for_task
        assert coarse.at("embeddings", output=False)["cosine_min"].bound < 0.999999
    assert strict.for_task["unexplained_der"].bound == 0.0
    assert strict.for_task["agreement_beyond_noise"].bound == 1.0


def test_a_default_of_one_tap_that_was_loosened_or_removed_is_seen() -> None:
    strict = limits_for("full", "float32", "cpu")
    assert loosened(overridden(strict, "gamma:max_abs=1e-15")) == ()
    (found,) = loosened(overridden(strict, "gamma:max_abs=0.1"))
    assert (found.tap, found.default, found.bound) == ("gamma", 1e-12, 0.1)
    kept = tuple(one for one in strict.limits if one.tap != "turns")
    (found,) = loosened(replace(strict, limits=kept))
    assert (found.tap, found.bound) == ("turns", math.inf)


def test_tf32_coarsens_float32_and_nothing_else() -> None:
    assert precision_of("float32", "cuda-tf32").name == "tf32"
    assert precision_of("float32", "cuda").name == "float32"
    assert precision_of("bfloat16", "cuda-tf32").name == "bfloat16"


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [("noise_ratio", 3.0, 3.0000001), ("cosine_min", 0.999999, 0.999998), ("norm_ratio", 1.1, 0.9)],
)
def test_a_bound_itself_is_good_and_the_far_side_is_not(
    metric: str, good: float, bad: float
) -> None:
    limit = Limit(metric, good, "test")
    assert limit.violation(good) is None
    assert metric in (limit.violation(bad) or "")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_finite_or_absent_breaks_even_an_infinite_bound(
    metric: str, value: float | None
) -> None:
    assert Limit(metric, METRICS[metric].no_limit, "switched off").violation(value)


def test_a_general_override_holds_wherever_the_metric_is_limited() -> None:
    limits = overridden(EMBEDDING, "noise_ratio=5", "cosine_min=0.9")
    assert bounds(limits) == {"noise_ratio": 5.0}
    assert bounds(limits, output=True) == {"noise_ratio": 5.0, "cosine_min": 0.9}


def test_a_tap_override_holds_there_alone_and_the_last_one_wins() -> None:
    limits = overridden(EMBEDDING, "lstm.0:noise_ratio=5", "lstm.0:noise_ratio=7", "noise_ratio=4")
    assert bounds(limits, "lstm.0")["noise_ratio"] == 7.0
    assert bounds(limits, "lstm.0", output=True)["noise_ratio"] == 7.0
    assert bounds(limits, "lstm.1")["noise_ratio"] == 4.0


def test_a_metric_without_a_default_becomes_a_further_limit() -> None:
    limits = overridden(EMBEDDING, "max_abs=1e-4", "eer_gap=0.01")
    assert bounds(limits)["max_abs"] == bounds(limits, output=True)["max_abs"] == 1e-4
    assert limits.for_task["eer_gap"].bound == 0.01
    assert loosened(limits) == ()


def test_names_may_hold_colons_and_spaces_are_nothing() -> None:
    assert parse_override(" a:b : noise_ratio = 5 ") == Override(
        "noise_ratio", 5.0, "a:b", "set by ' a:b : noise_ratio = 5 '"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("noise_ratio", "no '='"),
        ("noise_ratio=", "not a number"),
        ("noise_ratio=five", "not a number"),
        ("noise_ratio=nan", "NaN"),
        ("noise_ratio=-1", "no sense"),
        ("cosine_min=2", "no sense"),
        ("norm_ratio=0.5", "no sense"),
        ("cosine_min=inf", "no sense"),
        ("noise=5", "unknown metric 'noise'"),
        (":noise_ratio=5", "names no tap"),
        ("lstm.0:kendall_tau=0.5", "whole task"),
    ],
)
def test_an_override_that_cannot_be_meant_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(LimitsError, match=words) as caught:
        parse_override(text)
    assert isinstance(caught.value, SamevoiceError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {"noise_ratio": "5"},
        {"noise_ratio": True},
        {"noise_ratio": math.nan},
        {"noise_ratio": 10**400},
        {"noise": 5},
        {"taps": 5},
        {"taps": {"lstm": 5}},
        {"taps": {"lstm": {"0": {"noise_ratio": 5}}}},
    ],
)
def test_a_table_that_cannot_be_meant_is_an_error(table: dict[str, Any]) -> None:
    with pytest.raises(LimitsError):
        overrides_from(table)


@pytest.mark.parametrize("name", ["family", "dtype", "device"])
def test_an_unknown_kind_is_named(name: str) -> None:
    known = {"family": "generic", "dtype": "float32", "device": "cpu"}
    with pytest.raises(LimitsError, match="'strange'"):
        limits_for(**(known | {name: "strange"}))


def test_a_toml_file_overrides(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text('[limits]\nnoise_ratio = 5\ntaps."lstm.0" = { noise_ratio = 10.5 }\n')
    limits = EMBEDDING.overridden(read_overrides(path))
    assert bounds(limits)["noise_ratio"] == 5.0
    assert bounds(limits, "lstm.0")["noise_ratio"] == 10.5
    assert str(path) in limits.at("lstm.0", output=False)["noise_ratio"].why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("noise_ratio = 5", r"no \[limits\]"),
        ("[limits]\n[limit]\n", "'limit'"),
        ("[limits", "not TOML"),
        ("[limits]\ntaps.lstm.0 = { noise_ratio = 10 }", "quote"),
        ("limits = 5", r"no \[limits\]"),
    ],
)
def test_a_file_that_cannot_be_meant_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    with pytest.raises(LimitsError, match=words):
        read_overrides(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match=r"nowhere.toml: No such file"):
        read_overrides(tmp_path / "nowhere.toml")


def test_loosening_is_listed_with_both_values() -> None:
    limits = overridden(EMBEDDING, "noise_ratio=2.5", "kendall_tau=0.9", "lstm.0:noise_ratio=10")
    assert [str(one) for one in loosened(limits, outputs=["embedding"])] == [
        "noise_ratio at the outputs: 2.5 instead of 2",
        "kendall_tau at the task: 0.9 instead of 1",
        "noise_ratio at tap lstm.0: 10 instead of 3",
    ]


def test_a_tap_is_held_against_the_default_of_its_kind() -> None:
    limits = overridden(EMBEDDING, "embedding:noise_ratio=2.5")
    assert [one.default for one in loosened(limits, outputs=["embedding"])] == [2.0]
    assert loosened(limits, outputs=["other"]) == ()
    assert len(loosened(limits)) == 1  # not knowing, the stricter


def test_a_removed_limit_is_loosened_to_infinity() -> None:
    for gone in EMBEDDING.limits:
        kept = tuple(one for one in EMBEDDING.limits if one is not gone)
        (found,) = loosened(replace(EMBEDDING, limits=kept))
        assert (found.metric, found.where, abs(found.bound)) == (gone.metric, gone.where, math.inf)


@settings(deadline=None)
@given(
    st.sampled_from(EMBEDDING.limits),
    st.floats(0.0, 1e6, allow_nan=False),
    st.sampled_from(["", "embedding:", "lstm.0:"]),
)
def test_a_loosening_is_always_listed_and_a_tightening_never(
    limit: Limit, bound: float, place: str
) -> None:
    metric = METRICS[limit.metric]
    if not metric.low <= bound <= metric.high or (place and metric.task_section):
        return
    limits = overridden(EMBEDDING, f"{place}{limit.metric}={bound!r}")
    found = {(one.metric, one.bound) for one in loosened(limits, outputs=["embedding"])}
    tap, output = place.rstrip(":") or "any", place != "lstm.0:"
    for side in {False, output} if not place else {output}:
        old = EMBEDDING.at(tap, output=side).get(limit.metric)
        if old is not None and metric.looser(bound, old.bound):
            assert (limit.metric, bound) in found
    if metric.sense == AT_MOST and bound <= 2.0:
        assert not found
