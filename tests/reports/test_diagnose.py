"""A red result says its proven cause; without one, what holds for any network."""

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
from samevoice.parity.run import sentence
from samevoice.reports import page
from samevoice.reports.diagnose import MOST, SIGNATURES, diagnose
from samevoice.reports.view import view

FLIP: Spoil = lambda x: x[..., ::-1]  # noqa: E731


@pytest.mark.parametrize(
    ("family", "wrong", "spoil", "says"),
    [
        ("embedding", "resnet.pool", FLIP, "right values in other places"),
        ("embedding", "resnet.seg_1", lambda x: 1.5 * x, "off by one factor"),
        ("embedding", "resnet.seg_1", lambda x: x + np.float32(0.5), "is unexplained"),
        ("embedding", "resnet.conv1", lambda x: x.swapaxes(1, 2), "its axes in another order"),
        ("embedding", "resnet.conv1", lambda x: x[:, :3], "another shape"),
        ("embedding", "resnet.conv1", lambda x: x.astype(np.float64), "another dtype"),
        ("embedding", "resnet.conv1", lambda x: x * np.inf, "NaN or infinity"),
        ("segmentation", "lstm.0.forward.input", np.sin, "between two layers"),
    ],
)
def test_each_form_of_error_is_hinted_at(family: Any, wrong: str, spoil: Spoil, says: str) -> None:
    found = diagnose(made_results.red(family, wrong, spoil))
    assert 1 <= len(found) <= MOST
    assert says in found[0].headline
    assert found[0].tap == wrong
    assert wrong in found[0].headline
    assert all(one.why.endswith(".") and one.next_step for one in found)
    assert len({one.headline for one in found}) == len(found)


def test_a_green_result_needs_no_diagnosis() -> None:
    assert diagnose(made_results.green()) == []


def test_a_missing_tap_is_told_from_a_port_that_stopped() -> None:
    found = diagnose(made_results.missing())
    assert "has nothing at resnet.pool" in found[0].headline
    errors = {"errors": {"sample": "ValueError: shapes do not fit"}}
    found = diagnose(replace(made_results.missing(), details=errors))
    assert "stopped with an error before resnet.pool" in found[0].headline
    assert "shapes do not fit" in found[0].why
    told = sentence(replace(made_results.missing(), details=errors))
    assert told.endswith("; the port broke off: ValueError: shapes do not fit")


def test_the_task_alone_may_fail() -> None:
    (found,) = diagnose(made_results.red_task())
    assert found.headline == "Every layer stays within its limits, but the task does not"
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
        assert "{tap}" in one.headline
        assert re.fullmatch(r".*[^.]", one.headline)
        assert one.why.endswith(".")
        assert one.next_step.endswith(".")


def test_the_page_shows_what_is_proven_as_proven_and_hints_as_hints() -> None:
    red = made_results.red("embedding", "resnet.pool", FLIP)
    cause = Cause("resnet.pool", "a lost bias", 1e4, 0.5, "resnet.pool: a lost bias")
    proven, hinted = (page.html(view(one), drawn=[()]) for one in (replace(red, cause=cause), red))
    assert "Proven cause at resnet.pool: a lost bias" in proven
    assert "This bug is proven" in proven
    assert "right values in other places" not in proven
    assert "resnet.pool has the right values in other places" in hinted
    assert "These are hints" in hinted
    assert "roven cause" not in hinted
