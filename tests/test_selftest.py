"""``doctor --self-test``: what is right is good here, and what was made wrong is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from typed import Answer, Run

from samevoice import cli, doctor, selftest
from samevoice.errors import SlowerWarning
from samevoice.models import backend
from samevoice.models.diarization import compiled
from samevoice.models.fast import lstm_kernel
from samevoice.models.fast.lstm_kernel import METAL
from samevoice.models.fast.resnet import Trunk
from samevoice.models.layers import lstm, residual
from samevoice.selftest import Finding, self_test

FORMS = ("LSTM float32", "LSTM float16", "LSTM bfloat16", "ResNet trunk", "fused steps")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """On the CPU alone, whatever this machine has."""
    monkeypatch.setattr(selftest, "_devices", lambda: ("cpu",))

    def answer(*words: object) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["doctor", *map(str, words)])
        said = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), said.out, said.err)

    return answer


@pytest.fixture
def tested(run: Run) -> Callable[[], dict[str, Finding]]:
    return lambda: {one.name: one for one in self_test()}


# --- a machine on which all is well -------------------------------------------------------------


def test_every_form_has_a_good_line(run: Run) -> None:
    answer = run("--self-test")
    assert (answer.code, answer.err) == (0, "")
    *lines, last = answer.out.splitlines()
    assert [line[:23].rstrip() for line in lines] == [f"✓ CPU   {name}" for name in FORMS]
    assert last == "– -     golden replay  left out: samevoice doctor --self-test RELEASE"
    assert max(map(len, [*lines, last])) <= 80
    assert all("noise ratio " in line and "plain form " in line for line in lines[:4])


def test_json_says_the_same(run: Run) -> None:
    told = json.loads(run("--self-test", "--json").out)
    assert [row["name"] for row in told] == [*FORMS, "golden replay"]
    assert told == [one.as_dict() for one in self_test()]
    for row in told[:4]:
        assert set(row) == {"device", "name", "state", "error", "found"}
        assert 0 < row["error"] < 2


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, samevoice.selftest as s\n"
        "found = list(s.self_test())\n"
        "assert not [x for x in found if x.state == 'broken'], found\n"
        "sys.exit(f'{heavy}' if (heavy := {'torch', 'pyannote'} & sys.modules.keys()) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_device_is_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[mx.Device] = []
    before = mx.default_device()
    monkeypatch.setattr(mx, "set_default_device", chosen.append)
    with pytest.raises(KeyError), backend.using(mx.Device(mx.gpu)):
        raise KeyError
    assert chosen == [mx.Device(mx.gpu), before]


# --- a form that is wrong -----------------------------------------------------------------------


def off(factor: float, form: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(*args: Any, **kwargs: Any) -> Any:
        found = form(*args, **kwargs)
        return [x * factor for x in found] if isinstance(found, list) else found * factor

    return wrong


def raising(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no such instruction\non this processor")


@pytest.mark.parametrize(
    ("owner", "name", "factor", "line", "why"),
    [
        (lstm, "on_host", 1.001, "LSTM float32", "host form differs: it errs .* times as much"),
        (lstm, "on_host", np.nan, "LSTM float32", "host form differs: it gave .* finite"),
        (lstm, "steps", 1.001, "LSTM float32", "plain form 1e-03 off float64: wrong"),
        (Trunk, "__call__", 1.001, "ResNet trunk", "host form differs: it errs"),
        (residual.Block, "__call__", 1.001, "ResNet trunk", "off float64: wrong"),
        (compiled, "likeliest", 2, "fused steps", "masks are not what numpy gives"),
        (compiled, "clean_or_full", 2, "fused steps", "weights are not what numpy gives"),
    ],
)
def test_it_is_found_and_the_others_are_good(
    run: Run, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, factor: float, line: str,
    why: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(owner, name, off(factor, getattr(owner, name)))
    answer = run("--self-test", "--json")
    assert answer.code == 1
    told = {row["name"]: row for row in json.loads(answer.out)}
    assert told[line]["state"] == "broken"
    assert re.search(why, told[line]["found"])
    same = line.split()[0]
    assert {row["state"] for key, row in told.items() if same not in key} == {"good", "missing"}
    assert answer.err.count("\n") == 1
    assert f"tests failed, first {line} on CPU: " in answer.err


def test_one_that_breaks_off_is_broken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "powerset_masks", raising)
    answer = run("--self-test")
    assert answer.code == 1
    assert "✗ CPU   fused steps    RuntimeError: no such instruction\n" in answer.out
    assert answer.out.count("✓") == 4


# --- a GPU --------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], dict[str, Finding]]]:
    """A machine with a GPU that is a CPU in truth, and runs this kernel."""
    cpu = mx.Device(mx.cpu)
    monkeypatch.setattr(selftest, "_devices", lambda: ("gpu",))
    monkeypatch.setattr(backend, "device", lambda _: cpu)
    monkeypatch.setattr(backend, "device_name", lambda _: "Metal")
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    monkeypatch.setattr(lstm_kernel, "language", lambda: METAL)

    def found(kernel: Any) -> dict[str, Finding]:
        monkeypatch.setattr(lstm_kernel, "run", kernel)
        return {one.name: one for one in self_test()}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield found


def test_a_right_kernel_is_good(gpu: Any) -> None:
    found = gpu(lambda _, gates, wh: lstm.steps(gates, wh))
    for name in FORMS:
        assert (found[name].device, found[name].state) == ("Metal", "good")
    assert found["LSTM float32"].found.startswith("metal kernel, noise ratio 1.00; plain form ")
    assert found["ResNet trunk"].found.startswith("same layers, noise ratio 1.00; plain form ")


def test_a_wrong_one_is_missing_as_the_graph_is_right(gpu: Any) -> None:
    found = gpu(lambda _, gates, wh: lstm.steps(gates, wh[:, ::-1]))["LSTM float32"]
    assert found.state == "missing"
    assert found.error > 1000
    assert found.found.startswith("metal kernel left out: it errs ")
    found = gpu(raising)["LSTM float16"]
    assert (found.state, found.error) == ("missing", None)
    assert "left out: RuntimeError: no such instruction; plain form 5e-04 off" in found.found


def test_a_wrong_graph_is_broken_whatever_the_kernel(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = lstm.steps
    monkeypatch.setattr(lstm, "steps", off(1.1, right))
    found = gpu(lambda _, gates, wh: right(gates, wh))["LSTM bfloat16"]
    assert found.state == "broken"


def test_tf32_may_err_as_float16_does(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = lstm.steps
    monkeypatch.setattr(lstm, "steps", off(1.001, right))
    kernel = partial(lambda _, gates, wh: right(gates, wh))
    for setting, state in (("1", "good"), ("0", "broken")):
        monkeypatch.setenv("MLX_ENABLE_TF32", setting)
        assert gpu(kernel)["LSTM float32"].state == state


# --- usage, and warnings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["out"], "a RELEASE goes with --self-test"),
        (["--self-test", "nowhere"], "nowhere is not a folder"),
        (["--self-test", "."], "has neither a release's SHA256SUMS nor golden/golden.json"),
    ],
)
def test_bad_usage(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run(*words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert why in answer.err


def warning(monkeypatch: pytest.MonkeyPatch, kind: type[Warning]) -> None:
    """Makes ``samevoice doctor`` warn."""

    def examine() -> tuple[()]:
        warnings.warn("as right and slower", kind, stacklevel=1)
        return ()

    monkeypatch.setattr(doctor, "examine", examine)


def test_samevoices_own_warning_is_a_line_without_its_place(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning(monkeypatch, SlowerWarning)
    before = warnings.showwarning
    assert run().err == "note  as right and slower\n"
    assert warnings.showwarning is before


def test_other_warnings_are_pythons(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    warning(monkeypatch, FutureWarning)
    with pytest.warns(FutureWarning, match="as right and slower"):
        assert run().err == ""
