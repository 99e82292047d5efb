"""A red result says what most likely went wrong: held against the gallery's own bugs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import made_results
import numpy as np
import pytest
from made_results import Spoil

from samevoice.parity.judge import Tap
from samevoice.parity.result import Artefact, Cause, Result
from samevoice.reports.diagnose import MOST, SIGNATURES, diagnose

FLIP: Spoil = lambda x: x[..., ::-1]  # noqa: E731
HALF: Spoil = lambda x: x.astype(np.float16).astype(np.float32)  # noqa: E731


@pytest.mark.parametrize(
    ("family", "wrong", "spoil", "says"),
    [
        ("embedding", "resnet.pool", FLIP, "values that stand elsewhere"),
        ("embedding", "resnet.seg_1", lambda x: 1.5 * x, "a wrong factor"),
        ("embedding", "resnet.seg_1", lambda x: -x, "a wrong sign"),
        ("embedding", "resnet.seg_1", lambda x: x + np.float32(0.5), "is unexplained"),
        ("embedding", "resnet.conv1", lambda x: x.swapaxes(1, 2), "two axes swapped"),
        ("embedding", "resnet.conv1", lambda x: x[:, :3], "another size"),
        ("embedding", "resnet.conv1", lambda x: x.astype(np.float64), "another dtype"),
        ("embedding", "resnet.conv1", lambda x: x * np.inf, "a division by zero"),
        ("segmentation", "lstm.0.forward.input", np.sin, "something between two layers"),
    ],
)
def test_each_form_of_error_has_its_name(family: Any, wrong: str, spoil: Spoil, says: str) -> None:
    found = diagnose(made_results.red(family, wrong, spoil))
    assert 1 <= len(found) <= MOST
    assert says in found[0].headline
    assert found[0].tap == wrong
    assert wrong in found[0].headline
    assert all(one.why.endswith(".") and one.next_step for one in found)
    assert len({one.headline for one in found}) == len(found)


def test_a_green_result_needs_no_diagnosis() -> None:
    assert diagnose(made_results.green()) == []


def test_every_layer_in_half_precision_is_told_from_one() -> None:
    names = made_results.ORDER["embedding"]
    taps = [
        made_results.tap(name, HALF, mode=mode, seed=k)
        for k, name in enumerate(names)
        for mode in ("free", "forced")
    ]
    result = made_results.judged(taps)
    assert "half precision" in diagnose(result)[0].headline
    on_a_gpu = made_results.judged(
        [tap for tap in taps if "bn" not in tap.name],
        device="cuda",
        versions={"MLX_ENABLE_TF32": "1"},
    )
    assert "TF32" in diagnose(on_a_gpu)[0].headline
    alone = made_results.red(wrong="resnet.conv1", spoil=HALF)
    alone = made_results.judged(
        [x for x in taps if x.name == "resnet.conv1"] + [made_results.tap("output")]
    )
    assert "fewer bits in this layer" in diagnose(alone)[0].headline


def test_a_missing_tap_is_told_from_a_port_that_broke_off() -> None:
    found = diagnose(made_results.missing())
    assert "has nothing at resnet.pool" in found[0].headline
    errors = {"errors": {"sample": "ValueError: shapes do not fit"}}
    found = diagnose(replace(made_results.missing(), details=errors))
    assert "broke off before resnet.pool" in found[0].headline
    assert "shapes do not fit" in found[0].why


def test_the_task_alone_may_fail() -> None:
    (found,) = diagnose(made_results.red_task())
    assert found.headline == "Every layer keeps its limits, but the task does not"
    assert "decision_agreement is" in found.why
    assert found.tap == ""


def test_nothing_compared_is_said() -> None:
    from samevoice.parity.judge import Verdict
    from samevoice.parity.limits import limits_for

    nothing = Result.of(
        Verdict((), limits_for("generic", "float32", "cpu")),
        model_type="plda",
        source=Artefact(""),
        bundle=Artefact(""),
        versions={},
    )
    assert diagnose(nothing)[0].headline == "Nothing was compared"


def test_errors_that_add_up_blame_no_layer() -> None:
    noise: Callable[[Any], Any] = lambda x: x * np.float32(1 + 1e-5)  # noqa: E731
    taps = made_results.taps_of("embedding")
    taps = [
        made_results.tap(one.name, noise, seed=k // 2)
        if one.mode == "free" and one.name == "resnet.seg_1"
        else one
        for k, one in enumerate(taps)
    ]
    assert "no layer alone is wrong" in diagnose(made_results.judged(taps))[0].headline


def test_only_the_recorded_form_differs() -> None:
    taps = [*made_results.taps_of("embedding"), made_results.tap("output.recorded", FLIP)]
    assert "two forms" in diagnose(made_results.judged(taps))[0].headline


def test_copied_arrays_that_differ() -> None:
    x = np.ones((3, 3))
    taps = [Tap("plda.tr", x, x, x + 1e-9)]
    result = made_results.judged(
        taps, family="generic", model_type="plda", limits=["max_abs=0"], task={}
    )
    assert diagnose(result)[0].headline == "plda.tr is not the source's array"


def test_the_next_step_names_the_reproduction() -> None:
    result = replace(made_results.red(), details={"reproduction": "reproduction"})
    assert "samevoice judge reproduction/reference.safetensors" in diagnose(result)[0].next_step
    assert [one for one in diagnose(result)[1:] if "samevoice judge" in one.next_step] == []
    for nonsense in ({"reproduction": 5}, {"errors": [1]}, {"errors": {"x": 5}}):
        assert diagnose(replace(result, details=nonsense))


@pytest.mark.parametrize("name", list(made_results.every_kind()))
def test_any_result_is_diagnosed_without_an_error(name: str) -> None:
    result = made_results.every_kind()[name]
    assert bool(diagnose(result)) == (not result.passed)


def test_a_proven_cause_is_all_that_is_said() -> None:
    red = made_results.red("embedding", "resnet.pool", FLIP)
    bug = "frequency-major flattening"
    cause = Cause("resnet.pool", bug, 1e4, 0.5, f"resnet.pool: {bug}")
    (only,) = diagnose(replace(red, cause=cause))
    assert only.headline == "Proven cause at resnet.pool: frequency-major flattening"
    assert "0.5 instead of 1e+04" in only.why
    assert only.tap == "resnet.pool"


def test_every_signature_says_enough() -> None:
    for one in SIGNATURES:
        assert re.fullmatch(r"[^.].*[^.]", one.looks_like)
        assert not one.why.endswith(".")
        assert one.next_step.endswith(".")
