"""result.json survives the disk exactly, and is refused when cut off, edited or from the future."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.errors import BundleError
from samevoice.parity.bounds import parse_override
from samevoice.parity.inputs import Input
from samevoice.parity.judge import Tap, TapVerdict, Verdict, judge, judge_taps
from samevoice.parity.limits import Limits, limits_for
from samevoice.parity.result import (
    Artefact,
    Result,
    ResultError,
    dumps,
    loads,
    read,
    write,
)

Json = Any
EMBEDDING = limits_for("embedding", "float32", "cpu")
TASK = {"ranking": {"kendall_tau": 1.0}, "similarity": {"embedding_cosine_min": 1.0}}
SHA = "0123456789abcdef" * 4


def verdict_of(
    scale: float = 1.0, limits: Limits = EMBEDDING, task: dict[str, Any] | None = None
) -> Verdict:
    rng = np.random.default_rng(0)
    truth: dict[str, npt.NDArray[Any]] = {x: rng.normal(size=(4, 32)) for x in ("conv", "output")}
    sides = [
        {name: (x + 1e-6 * rng.normal(size=x.shape)).astype(np.float32) for name, x in t.items()}
        for t in (truth, truth)
    ]
    sides[1]["conv"] *= np.float32(scale)
    task = TASK if task is None else task
    reference, candidate = sides
    verdict = judge(truth, reference, candidate, limits, outputs=["output"], input="sample")
    return verdict.with_task(task)


def result_of(verdict: Verdict, **details: Json) -> Result:
    return Result.of(
        verdict,
        model_type="embedding",
        source=Artefact(SHA, {"name": "reference:embedding"}),
        bundle=Artefact(SHA),
        versions={"mlx": "0.32.4"},
        inputs=[Input("sample", SHA, (1, 16000))],
        command=["samevoice", "parity", "out/bündle \udc80"],
        details=details,
    )


GREEN, RED = result_of(verdict_of()), result_of(verdict_of(1.5))


def edited(result: Result, edit: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(dumps(result))
    edit(document)
    return json.dumps(document)


def test_the_document_has_the_keys_of_the_contract() -> None:
    document = json.loads(dumps(GREEN))
    assert document["passed"] is True
    assert (document["model_type"], document["dtype"], document["device"]) == (
        "embedding",
        "float32",
        "cpu",
    )
    assert document["source"]["sha256"] == document["bundle"]["sha256"] == SHA
    assert document["first_divergence"] is None
    assert document["loosened"] == []
    assert document["schema"] == 2
    assert document["task"]["ranking"]["kendall_tau"] == 1.0
    for key in ("versions", "limits", "inputs", "command"):
        assert document[key]
    for tap in document["taps"]:
        assert {"name", "shape", "max_abs", "mean_abs", "nmse", "cosine_min"} <= tap.keys()
        assert {"noise_ratio", "passed", "mode", "input"} <= tap.keys()
        assert (tap["mode"], tap["input"], tap["shape"]) == ("free", "sample", [4, 32])
    assert json.loads(dumps(RED))["first_divergence"] == "conv"


@pytest.mark.parametrize("result", [GREEN, RED])
def test_a_result_comes_back_exactly(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    write(path, result)
    assert read(path) == result
    assert read(path).verdict.reasons == result.verdict.reasons
    first = path.read_bytes()
    write(path, read(path))
    assert path.read_bytes() == first
    assert os.listdir(path.parent) == ["result.json"]


def test_infinities_and_nan_survive_strict_json() -> None:
    whole = np.ones((2, 2), np.float32)
    broken = whole.copy()
    broken[1, 0] = np.nan
    taps = [
        Tap("a", whole, whole, broken),
        Tap("b", whole, whole, None),
        Tap("output", whole, whole, whole, input="sample"),
    ]
    verdict = judge_taps(taps, EMBEDDING, outputs=["output"])
    result = result_of(verdict, plot=[math.nan, -math.inf, {"x": math.inf}])
    text = dumps(result)
    json.loads(text, parse_constant=pytest.fail)
    back = loads(text)
    assert dumps(back) == text
    assert back.taps[0].worst is not None
    assert math.isnan(back.taps[0].worst.candidate)
    assert back.taps[1].max_abs == math.inf
    assert back.taps[1].cosine_min == -math.inf
    assert math.isnan(back.details["plot"][0])
    assert back.details["plot"][1:] == [-math.inf, {"x": math.inf}]


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=50)
@given(finite, st.text(max_size=8), st.lists(finite, max_size=3))
def test_any_number_and_name_survives_exactly(x: float, name: str, more: list[float]) -> None:
    tap = replace(GREEN.taps[0], name=f"tap {name}", p99=abs(x), mean_abs=x)
    taps = (tap, *GREEN.taps[1:])
    result = replace(GREEN, taps=taps, details={"free": more})
    assert loads(dumps(result)) == result


@pytest.mark.parametrize("result", [GREEN, RED])
def test_a_tampered_verdict_is_refused(result: Result) -> None:
    def flip(document: dict[str, Any]) -> None:
        document["passed"] = not document["passed"]

    with pytest.raises(ResultError, match="passed is"):
        loads(edited(result, flip))


def test_a_tampered_tap_is_refused() -> None:
    def whitewash(document: dict[str, Any]) -> None:
        document["passed"], document["first_divergence"] = True, None
        for tap in document["taps"]:
            tap["passed"], tap["reasons"] = True, []

    with pytest.raises(ResultError, match=r"'conv .*claims to have passed, but noise_ratio"):
        loads(edited(RED, whitewash))

    def blacken(document: dict[str, Any]) -> None:
        document["taps"][0]["passed"] = False

    with pytest.raises(ResultError, match="claims to have failed"):
        loads(edited(GREEN, blacken))


def test_a_tampered_ratio_contradicts_its_errors() -> None:
    def whitewash(document: dict[str, Any]) -> None:
        document["passed"], document["first_divergence"] = True, None
        document["taps"][0] |= {"passed": True, "reasons": [], "noise_ratio": 1.0}

    with pytest.raises(ResultError, match="its errors say"):
        loads(edited(RED, whitewash))


def test_another_first_divergence_is_refused() -> None:
    with pytest.raises(ResultError, match="first_divergence"):
        loads(edited(RED, lambda document: document.update(first_divergence="output")))


def test_a_tampered_task_is_refused() -> None:
    def spoil(document: dict[str, Any]) -> None:
        document["task"]["ranking"]["kendall_tau"] = 0.9

    with pytest.raises(ResultError, match="passed is True"):
        loads(edited(GREEN, spoil))
    with pytest.raises(ResultError, match="passed is True"):
        loads(edited(GREEN, lambda document: document.update(task={})))


def test_no_taps_never_pass() -> None:
    with pytest.raises(ResultError, match="passed is True"):
        loads(edited(GREEN, lambda document: document.update(taps=[])))


def test_loosened_limits_must_be_listed_and_removed_ones_too() -> None:
    limits = EMBEDDING.overridden([parse_override("noise_ratio=1e9")])
    loose = result_of(verdict_of(1.5, limits))
    assert loose.passed
    assert [one.bound for one in loads(dumps(loose)).loosened] == [1e9, 1e9]
    with pytest.raises(ResultError, match="loosened does not list noise_ratio"):
        loads(edited(loose, lambda document: document.update(loosened=[])))

    def remove(document: dict[str, Any]) -> None:
        document["limits"]["limits"].pop(0)

    with pytest.raises(ResultError, match="loosened does not list noise_ratio"):
        loads(edited(GREEN, remove))

    def invent(document: dict[str, Any]) -> None:
        document["loosened"] = json.loads(dumps(loose))["loosened"]

    with pytest.raises(ResultError, match="do not say"):
        loads(edited(GREEN, invent))


def test_limits_of_another_dtype_are_refused() -> None:
    with pytest.raises(ResultError, match="for float32 on cpu"):
        loads(edited(GREEN, lambda document: document.update(dtype="q4")))

    def rename(document: dict[str, Any]) -> None:
        document["limits"]["limits"][0]["metric"] = "niceness"

    with pytest.raises(ResultError, match="unknown metric 'niceness'"):
        loads(edited(GREEN, rename))


@pytest.mark.parametrize(
    ("schema", "words"),
    [(3, "schema 3 is newer"), (0, "never"), ("1", "never"), (True, "never"), (None, "missing")],
)
def test_an_unknown_schema_is_refused_by_name(schema: Json, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        loads(edited(GREEN, lambda document: document.update(schema=schema)))


@pytest.mark.parametrize("key", [x.name for x in fields(Result) if x.name != "schema"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ResultError, match=f"first {key}$"):
        loads(edited(GREEN, lambda document: document.pop(key)))


@pytest.mark.parametrize("key", [x.name for x in fields(TapVerdict)])
def test_a_missing_key_of_a_tap_is_named(key: str) -> None:
    with pytest.raises(ResultError, match=rf"first taps\[1\]\.{key}$"):
        loads(edited(GREEN, lambda document: document["taps"][1].pop(key)))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("passed", 1, "passed must be a truth, not 1"),
        ("model_type", None, "model_type must be text, not null"),
        ("taps", {}, "taps must be a list, not an object"),
        ("taps", [5], r"taps\[0\] must be an object, not 5"),
        ("source", "x", "source must be an object, not 'x'"),
        ("versions", {"mlx": 1}, r"versions\.mlx must be text, not 1"),
        ("command", "samevoice", "command must be a list"),
        ("task", [], "task must be an object"),
        ("bundle", {"sha256": "xyz", "notes": {}}, r"bundle\.sha256 must be 64"),
        ("extra", 1, "1 keys are unknown, first extra"),
        ("inputs", [], "which inputs lacks"),
    ],
)
def test_a_wrong_type_is_named(key: str, value: Json, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        loads(edited(GREEN, lambda document: document.update({key: value})))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("max_abs", "large", r"taps\[0\]\.max_abs must be a number, not 'large'"),
        ("max_abs", True, r"taps\[0\]\.max_abs must be a number"),
        ("max_abs", 10**400, r"taps\[0\]\.max_abs is too large"),
        ("shape", [4.0], r"taps\[0\]\.shape\[0\] must be an integer"),
        ("mode", "loose", r"taps\[0\]\.mode must be one of free, forced"),
        ("histogram", [1, 2], "histogram bins"),
        ("reasons", ["just so"], "must give reasons"),
    ],
)
def test_a_wrong_type_in_a_tap_is_named(key: str, value: Json, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        loads(edited(GREEN, lambda document: document["taps"][0].update({key: value})))


@pytest.mark.parametrize("text", ["", "[]", "5", "{", "[" * 100_000, '{"a": NaN}', '{"a":1,"a":2}'])
def test_what_is_no_result_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ResultError, match=r"^file\.json") as caught:
        loads(text, "file.json")
    assert "\n" not in str(caught.value)


def test_json_that_python_reads_and_others_do_not_is_refused() -> None:
    with pytest.raises(ResultError, match="NaN is not JSON"):
        loads(edited(GREEN, lambda document: document["details"].update(x=math.nan)))
    twice = dumps(RED).replace('"passed": false,', '"passed": false,\n"passed": true,', 1)
    with pytest.raises(ResultError, match="'passed' stands there twice"):
        loads(twice)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, len(dumps(GREEN)) - 2))
def test_a_file_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(ResultError, match="cut off"):
        loads(dumps(GREEN)[:length])


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file"):
        read(tmp_path / "nowhere.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ResultError, match="UTF-8"):
        read(tmp_path / "x.json")


def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write(path, GREEN)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"result\.json cannot be written: the disk .* is full"):
        write(path, RED)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["result.json"]


def test_an_inconsistent_result_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="passed is True"):
        write(tmp_path / "result.json", replace(RED, passed=True))
    with pytest.raises(ResultError, match="JSON does not know"):
        write(tmp_path / "result.json", replace(GREEN, details={"x": np.ones(2)}))
    with pytest.raises(ResultError, match="keys must be strings"):
        write(tmp_path / "result.json", replace(GREEN, details={"x": {1: 2}}))
    assert not list(tmp_path.iterdir())


def test_figures_of_the_task_are_judged() -> None:
    assert not result_of(verdict_of(task={})).passed
    assert result_of(verdict_of(task=TASK)).passed
    assert not result_of(verdict_of(task=TASK | {"ranking": {"kendall_tau": 0.5}})).passed


def test_five_thousand_taps_are_read_in_a_few_seconds() -> None:
    taps = tuple(replace(GREEN.taps[0], name=f"tap.{k}") for k in range(4999))
    taps += (next(tap for tap in GREEN.taps if tap.output),)
    many = replace(GREEN, taps=taps)
    assert len(loads(dumps(many)).taps) == 5000


def test_a_made_up_times_floor_is_refused() -> None:
    """It can let a tap pass, so it must follow from the error and the floor beside it."""

    def excuse(document: dict[str, Any]) -> None:
        document["taps"][0]["times_floor"] = 1e-3

    with pytest.raises(ResultError, match="its noise floor say"):
        loads(edited(GREEN, excuse))


def test_a_tap_that_stands_twice_is_refused() -> None:
    with pytest.raises(ResultError, match="stands in the result twice"):
        loads(edited(GREEN, lambda document: document["taps"].append(document["taps"][0])))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda document: document.update(model_type="segmentation"), "judged by the limits of"),
        (lambda document: document.update(model_type="xvector"), "parity does not compare"),
        (lambda document: document["taps"].pop(), "no output was judged for 'sample'"),
    ],
)
def test_evidence_that_was_taken_away_is_missed(edit: Any, said: str) -> None:
    with pytest.raises(ResultError, match=said):
        loads(edited(GREEN, edit))
