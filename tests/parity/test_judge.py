"""The judge lets right ports pass, and nothing that is absent, broken, misshapen or wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.parity.bounds import METRICS, LimitsError, parse_override
from samevoice.parity.judge import (
    JudgeError,
    Tap,
    TapVerdict,
    Verdict,
    judge,
    judge_pair,
    judge_tap,
    judge_taps,
    task_violations,
)
from samevoice.parity.limits import Limits, limits_for

Array = npt.NDArray[Any]
Taps = dict[str, Array]
GENERIC = limits_for("generic", "float32", "cpu")
NAMES = ("waveform", "conv", "lstm.0", "linear", "output")


def run(seed: int = 0, noise: float = 1e-6) -> tuple[Taps, Taps, Taps]:
    """Truth, and two evaluations that are off by the same noise."""
    rng = np.random.default_rng(seed)
    truth = {name: rng.normal(size=(6, 64)) for name in NAMES}
    sides = [
        {name: (x + noise * rng.normal(size=x.shape)).astype(np.float32) for name, x in t.items()}
        for t in (truth, truth)
    ]
    return truth, sides[0], sides[1]


def judged(truth: Taps, reference: Taps, candidate: Taps, limits: Limits = GENERIC) -> Verdict:
    return judge(truth, reference, candidate, limits, outputs=["output"])


def limited(*texts: str) -> Limits:
    return GENERIC.overridden(parse_override(text) for text in texts)


def tap_of(verdict: Verdict, name: str) -> TapVerdict:
    return next(tap for tap in verdict.taps if tap.name == name)


def test_a_right_port_passes_with_a_noise_ratio_of_one() -> None:
    verdict = judged(*run())
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.first_divergence is None
    assert [tap.name for tap in verdict.taps] == list(NAMES)
    assert [tap.name for tap in verdict.taps if tap.output] == ["output"]
    for tap in verdict.taps:
        assert tap.noise_ratio == pytest.approx(1.0, abs=0.3)
        assert tap.times_floor is None
        assert tap.shape == (6, 64)
        assert tap.dtype == "float32"
        assert sum(tap.histogram) == 6 * 64


@pytest.mark.parametrize("name", NAMES)
def test_a_scale_of_one_and_a_half_is_caught_where_it_is(name: str) -> None:
    truth, reference, candidate = run()
    candidate[name] = candidate[name] * np.float32(1.5)
    verdict = judged(truth, reference, candidate)
    assert verdict.first_divergence == name
    assert [tap.name for tap in verdict.failed] == [name]
    assert tap_of(verdict, name).cosine_min > 1 - 1e-9
    assert tap_of(verdict, name).noise_ratio > 1000


def test_a_missing_tap_fails_by_name() -> None:
    truth, reference, candidate = run()
    del candidate["lstm.0"]
    verdict = judged(truth, reference, candidate)
    assert verdict.first_divergence == "lstm.0"
    assert verdict.reasons == ("lstm.0: missing in the candidate",)
    tap = tap_of(verdict, "lstm.0")
    assert tap.max_abs == tap.noise_ratio == math.inf
    assert tap.shape == (6, 64)


def test_an_extra_tap_fails_too_and_comes_last() -> None:
    truth, reference, candidate = run()
    candidate["bn_after"] = candidate["output"]
    verdict = judged(truth, reference, candidate)
    assert verdict.taps[-1].name == "bn_after"
    assert "extra in the candidate" in verdict.reasons[0]


@pytest.mark.parametrize("side", [0, 1])
def test_a_tap_that_truth_or_reference_lack_fails(side: int) -> None:
    sides = run()
    del sides[side]["conv"]
    verdict = judged(*sides)
    assert verdict.first_divergence == "conv"
    assert tap_of(verdict, "conv").reasons == (f"missing in the {('truth', 'reference')[side]}",)


def test_an_output_that_never_comes_fails() -> None:
    truth, reference, candidate = run()
    verdict = judge(truth, reference, candidate, GENERIC, outputs=["log_probs"])
    assert verdict.first_divergence == "log_probs"
    assert "neither side" in verdict.reasons[0]


def test_an_output_that_only_one_input_lacks_fails() -> None:
    truth, reference, candidate = run()
    taps = [
        Tap(name, truth[name], reference[name], candidate[name], input=fed)
        for fed in ("sample", "silence")
        for name in NAMES
        if (name, fed) != ("output", "silence")
    ]
    verdict = judge_taps(taps, GENERIC, outputs=["output"])
    assert [tap.label for tap in verdict.failed] == ["output (silence)"]


def test_nothing_compared_is_nothing_proven() -> None:
    verdict = judge({}, {}, {}, GENERIC)
    assert not verdict.passed
    assert verdict.reasons == ("no tap was compared",)


def test_a_broadcastable_shape_is_refused() -> None:
    truth, reference, candidate = run()
    candidate["conv"] = candidate["conv"][:1]
    verdict = judged(truth, reference, candidate)
    assert verdict.reasons == ("conv: the candidate has shape (1, 64), not (6, 64)",)
    assert tap_of(verdict, "conv").max_abs == math.inf


def test_another_type_is_refused() -> None:
    truth, reference, candidate = run()
    candidate["conv"] = candidate["conv"].astype(np.float64)
    assert judged(truth, reference, candidate).reasons == (
        "conv: the candidate is float64, the reference float32",
    )


def test_text_is_a_fault_and_no_crash() -> None:
    truth, reference, candidate = run()
    for side in (reference, candidate):
        side["conv"] = np.full((6, 64), "loud")
    assert "no real numbers" in judged(truth, reference, candidate).reasons[0]


def test_whole_numbers_are_of_the_same_width() -> None:
    whole = np.arange(6, dtype=np.int64)
    assert judge_tap(Tap("x", whole, whole, whole), GENERIC).passed
    wanted = "the candidate is int32, the reference int64"
    assert wanted in judge_tap(Tap("x", whole, whole, whole.astype(np.int32)), GENERIC).reasons


def test_half_precision_may_come_as_itself_where_its_limits_are_used() -> None:
    truth, reference, candidate = run()
    half = {name: x.astype(ml_dtypes.bfloat16) for name, x in candidate.items()}
    limits = limits_for("generic", "bfloat16", "cpu")
    assert judged(truth, reference, half, limits).passed
    assert judged(truth, reference, candidate, limits).passed
    assert not judged(truth, reference, half).passed
    half["conv"] = np.full_like(half["conv"], np.nan)
    assert judged(truth, reference, half, limits).first_divergence == "conv"
    assert "384 values" in judged(truth, reference, half, limits).reasons[0]


def test_figures_and_the_worst_place_by_hand() -> None:
    truth = np.array([[1.0, 2.0], [3.0, 4.0]])
    reference = truth + np.array([[0.0, 0.0], [0.0, 0.5]])
    candidate = truth + np.array([[0.0, 0.0], [-1.0, 0.0]])
    tap = judge_tap(Tap("x", truth, reference, candidate), GENERIC)
    assert tap.passed
    assert tap.noise_ratio == 2.0
    assert (tap.max_abs, tap.mean_abs, tap.rms, tap.reference_rms) == (1.0, 0.25, 0.5, 0.25)
    assert tap.worst is not None
    assert tap.worst.index == (1, 0)
    assert (tap.worst.truth, tap.worst.reference, tap.worst.candidate) == (3.0, 3.0, 2.0)
    assert tap.histogram[0] == 3


def test_a_half_of_the_taps_elements_may_not_hide_behind_the_other() -> None:
    truth, reference, candidate = run()
    candidate["output"][0, 0] += np.float32(0.01)
    verdict = judged(truth, reference, candidate)
    assert verdict.first_divergence == "output"


def test_outputs_are_held_to_more_than_taps() -> None:
    truth, reference, candidate = run()
    for name in NAMES:
        reference[name] = (truth[name] + 1e-3).astype(np.float32)
        candidate[name] = (truth[name] + 2.5e-3).astype(np.float32)
    verdict = judged(truth, reference, candidate)
    assert [tap.name for tap in verdict.failed] == ["output"]
    assert len(verdict.failed[0].reasons) == 1  # the noise ratio
    candidate["output"] = (truth["output"] + 5e-3).astype(np.float32)
    (failed,) = judged(truth, reference, candidate).failed
    assert len(failed.reasons) == 2  # and the cosine


def test_several_valid_references_give_times_floor() -> None:
    truth, reference, candidate = run()
    floors = [{name: x + 1e-3 for name, x in truth.items()}]
    verdict = judge(truth, reference, candidate, GENERIC, floors=floors)
    tap = verdict.taps[0]
    assert tap.noise_floor == pytest.approx(1e-3)
    assert tap.times_floor == pytest.approx(1e-3, rel=0.5)
    assert tap.noise_ratio == pytest.approx(1.0, abs=0.3)
    floors[0]["conv"] = floors[0]["conv"][:1]
    assert not judge(truth, reference, candidate, GENERIC, floors=floors).passed
    # A limit on what was not measured fails.
    unmeasured = judged(truth, reference, candidate, limited("times_floor=2"))
    assert "times_floor was not measured" in unmeasured.reasons[0]


def test_free_and_forced_taps_of_several_inputs_stand_side_by_side() -> None:
    truth, reference, candidate = run()
    wrong = dict(candidate, linear=candidate["linear"] + 1)
    modes: list[Any] = ["free", "forced"]
    taps = [
        Tap(name, truth[name], reference[name], (wrong if fed == "b" else candidate)[name],
            mode=mode, input=fed)
        for fed in "ab" for mode in modes for name in NAMES
    ]  # fmt: skip
    verdict = judge_taps(iter(taps), GENERIC, outputs=["output"])
    assert len(verdict.taps) == 20
    assert [tap.label for tap in verdict.failed] == ["linear (b)", "linear (forced, b)"]
    with pytest.raises(JudgeError, match="twice"):
        judge_taps([*taps, taps[0]], GENERIC)


def test_a_limited_tap_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(LimitsError, match=r"'lstm\.9'"):
        judged(*run(), limited("lstm.9:noise_ratio=5"))


def test_a_tap_override_moves_only_that_tap() -> None:
    truth, reference, candidate = run()
    for name in ("conv", "linear"):
        candidate[name] = candidate[name] + np.float32(1e-5)
    verdict = judged(truth, reference, candidate, limited("conv:noise_ratio=100"))
    assert [tap.name for tap in verdict.failed] == ["linear"]
    assert [str(one) for one in verdict.loosened] == ["noise_ratio at tap conv: 100 instead of 3"]


def test_an_infinite_limit_still_stops_what_is_not_finite() -> None:
    truth, reference, candidate = run()
    switched_off = limited("noise_ratio=inf", "cosine_min=-inf")
    candidate["conv"] = candidate["conv"] * 2
    assert judged(truth, reference, candidate, switched_off).passed
    candidate["conv"][0, 0] = np.inf
    assert not judged(truth, reference, candidate, switched_off).passed
    assert not judged(truth, reference, candidate, replace(GENERIC, limits=())).passed


def test_zero_sized_and_all_zero_taps_pass_when_equal() -> None:
    zero, none = np.zeros((2, 3), np.float32), np.zeros((0, 3), np.float32)
    taps = {"zero": zero, "none": none}
    verdict = judge(taps, taps, taps, GENERIC, outputs=["zero", "none"])
    assert verdict.passed
    off = dict(taps, zero=zero + np.float32(1e-6))
    assert judge(taps, taps, off, GENERIC).first_divergence == "zero"


def test_a_reference_far_from_the_truth_is_doubtful() -> None:
    truth, _, candidate = run()
    reference = {name: x * np.float32(1.1) for name, x in candidate.items()}
    verdict = judge(truth, reference, reference, GENERIC)
    assert verdict.passed  # a candidate as wrong as its reference: a ratio of 1
    assert {tap.name for tap in verdict.doubtful} == set(NAMES)
    assert judged(*run()).doubtful == ()


def test_two_dumps_without_a_truth() -> None:
    _, reference, candidate = run()
    verdict = judge_pair(reference, candidate)
    assert verdict.passed
    assert verdict.limits.family == "dump"
    # 1e-6 on both sides, in roundings of float32 to a scale of one.
    expected = math.sqrt(2) * 1e-6 / (2.0**-24 / math.sqrt(3))
    assert verdict.taps[0].noise_ratio == pytest.approx(expected, rel=0.1)
    assert judge_pair(reference, reference).taps[0].noise_ratio == 0.0
    candidate["linear"] = candidate["linear"] * np.float32(1.5)
    assert judge_pair(reference, candidate).first_divergence == "linear"
    del candidate["conv"]
    assert judge_pair(reference, candidate).first_divergence == "conv"


def test_the_task_is_limited_too() -> None:
    limits = limits_for("embedding", "float32", "cpu")
    good = {"ranking": {"kendall_tau": 1.0}, "similarity": {"embedding_cosine_min": 1.0}}
    verdict = judge(*run(), limits).with_task(good)
    assert verdict.passed
    assert not judge(*run(), limits).passed  # the task was not measured
    flipped = verdict.with_task(good | {"ranking": {"kendall_tau": 0.99}})
    assert flipped.reasons == ("kendall_tau is 0.99, but must be at least 1",)
    for wrong in ("1.0", True, None, math.nan, [1.0]):
        assert not verdict.with_task(good | {"ranking": {"kendall_tau": wrong}}).passed


@settings(max_examples=40, deadline=None)
@given(st.permutations(NAMES), st.sampled_from(NAMES))
def test_the_order_of_taps_changes_no_figure(names: list[str], wrong: str) -> None:
    truth, reference, candidate = run()
    candidate[wrong] = candidate[wrong] * np.float32(1.5)
    candidate["output"] = candidate["output"] * np.float32(1.5)
    taps = [Tap(name, truth[name], reference[name], candidate[name]) for name in names]
    straight = judge(truth, reference, candidate, GENERIC, outputs=["output"])
    assert judge_taps(taps, GENERIC, outputs=["output"], order=NAMES) == straight
    assert straight.first_divergence == wrong


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 383),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.sampled_from([0, 1, 2]),
)
def test_one_value_that_is_not_finite_fails_its_tap(
    name: str, at: int, bad: float, side: int
) -> None:
    sides = run()
    sides[side][name].flat[at] = bad
    verdict = judged(*sides)
    assert [tap.name for tap in verdict.failed] == [name]
    assert "1 values that are NaN or infinite" in verdict.reasons[0]
    worst = tap_of(verdict, name).worst
    assert worst is not None
    assert np.ravel_multi_index(worst.index, (6, 64)) == at


@pytest.mark.parametrize(
    "text",
    [f"{name}={'0.99999999999999' if x.high == 1 else '1.0000000001' if x.low else '1e-12'}"
     for name, x in METRICS.items() if x.task_section is None and name != "argmax_agreement"],
)  # fmt: skip
def test_any_single_broken_limit_fails(text: str) -> None:
    truth, reference, candidate = run()
    candidate["conv"] = candidate["conv"] * np.float32(1 + 1e-6)
    floors = [reference]
    outputs = ["conv"]
    assert judge(truth, reference, candidate, GENERIC, floors=floors, outputs=outputs).passed
    limits = limited(text)
    verdict = judge(truth, reference, candidate, limits, floors=floors, outputs=outputs)
    broken = text.partition("=")[0]
    assert not verdict.passed
    assert all(words.split(": ")[1].startswith(broken) for words in verdict.reasons)


@pytest.mark.parametrize("values", [1, 16, 128, 999])
def test_a_right_port_passes_however_few_its_values_are(values: int) -> None:
    """Two evaluations with the same noise differ by luck; three thousand times as much is wrong."""
    failed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=values)
        sides = [(truth + 1e-6 * rng.normal(size=values)).astype(np.float32) for _ in range(3)]
        tap = Tap("few", truth, sides[0], sides[1], [sides[2]])
        failed += not judge_tap(tap, GENERIC).passed
        wrong = Tap("few", truth, sides[0], (sides[1] + np.float32(0.05)))
        assert not judge_tap(wrong, GENERIC).passed or values == 1
    assert failed == 0


def test_what_a_tap_of_few_values_may_have_is_said() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=100)
    reference = (truth + 1e-6 * rng.normal(size=100)).astype(np.float32)
    tap = judge_tap(Tap("few", truth, reference, reference + np.float32(1e-3)), GENERIC)
    # 3 times exp(4 / 10)
    assert "but must be at most 4.47547" in tap.reasons[0]


def test_a_limit_that_was_set_by_hand_holds_as_it_was_set() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=100)
    reference = (truth + 1e-6 * rng.normal(size=100)).astype(np.float32)
    off = (truth + 3.5e-6 * rng.normal(size=100)).astype(np.float32)
    tap = Tap("few", truth, reference, off)
    assert judge_tap(tap, GENERIC).passed  # 3 times exp(4 / 10)
    (why,) = judge_tap(tap, limited("noise_ratio=2.9")).reasons
    assert why.endswith("but must be at most 2.9")
    assert not judge_tap(tap, limited("few:noise_ratio=2.9")).passed


def test_a_task_figure_too_large_for_a_number_breaks_its_limit() -> None:
    limits = limits_for("embedding", "float32", "cpu")
    reasons = task_violations({"ranking": {"kendall_tau": 10**400}}, limits)
    assert "kendall_tau is inf, but must be at least 1" in reasons


def test_a_cosine_is_held_to_what_the_reference_itself_keeps() -> None:
    """Where a network magnifies rounding, neither side has a cosine of 1 to the truth."""
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((4, 64))
    noisy, right, wrong = (
        (truth + size * rng.standard_normal(truth.shape)).astype(np.float32)
        for size in (0.004, 0.006, 0.03)
    )
    limits = limits_for("embedding", "float32", "cpu")

    def output(reference: Array, candidate: Array) -> TapVerdict:
        verdict = judge(
            {"output": truth}, {"output": reference}, {"output": candidate}, limits,
            outputs=["output"],
        )  # fmt: skip
        return verdict.taps[0]

    found = output(noisy, right)
    assert found.cosine_min < 0.99999
    assert found.passed, found.reasons
    assert not output(noisy, wrong).passed
    exact = truth.astype(np.float32)
    assert any("cosine_min" in reason for reason in output(exact, right).reasons)


def test_a_voice_is_held_to_what_the_reference_itself_keeps() -> None:
    limits = limits_for("embedding", "float32", "cpu")

    def reasons(cosine: float, noise: float) -> tuple[str, ...]:
        figures = {"embedding_cosine_min": cosine, "embedding_cosine_noise": noise}
        return task_violations({"similarity": figures, "ranking": {"kendall_tau": 1.0}}, limits)

    assert not reasons(0.9999, 1e-5)
    assert reasons(0.9999, 1e-6)
    assert reasons(0.9999, 0.0)
    assert reasons(-math.inf, math.inf)
