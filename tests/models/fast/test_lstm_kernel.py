"""The LSTM kernel, run by this machine's threads; and what follows where a GPU runs it wrongly."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lstm_host
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm_host import SIZES, TYPES, Host

from samevoice.errors import SlowerWarning
from samevoice.models import backend
from samevoice.models.fast import lstm_kernel
from samevoice.models.fast.check import check
from samevoice.models.fast.lstm_kernel import CUDA, METAL, Language
from samevoice.models.layers import as_float64, lstm
from samevoice.models.layers.lstm import BiLSTM

pytestmark = pytest.mark.long

LANGUAGES = pytest.mark.parametrize("language", [METAL, CUDA], ids=["metal", "cuda"])
NEEDS_GXX = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernel with")
# Rounding of what is stored, and as much again from one before it: the sums are float32 always.
CLOSE = {"float32": 1e-6, "float16": 2.0**-10, "bfloat16": 2.0**-7}

Array = np.ndarray[Any, np.dtype[Any]]


# --- the text, run by threads of this machine ----------------------------------------------------


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> dict[Language, Host]:
    folder = tmp_path_factory.mktemp("kernel")
    return {language: Host(language, folder) for language in (METAL, CUDA)}


def as_mlx(x: Array) -> mx.array:
    return mx.array(x.astype(np.float32)).astype(getattr(mx, str(x.dtype)))


def as_numpy(x: mx.array) -> Array:
    kind = TYPES[str(x.dtype).rpartition(".")[2]]
    return np.array(x.astype(mx.float32)).astype(kind)


@NEEDS_GXX
@LANGUAGES
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_it_is_the_graph_and_the_truth(
    hosts: dict[Language, Host], language: Language, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(list(TYPES)))
    steps, batch = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    ways, units = data.draw(st.integers(1, 2)), data.draw(st.sampled_from(SIZES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    loud = 10 ** rng.uniform(-1, 1.5, 4 * units)
    gates = (rng.standard_normal((steps, ways, batch, 4 * units)) * loud).astype(TYPES[kind])
    wh = (rng.uniform(-1, 1, (ways, units, 4 * units)) / np.sqrt(units)).astype(TYPES[kind])
    got = hosts[language](gates, wh, data.draw(st.integers(1, 7))).astype(np.float64)
    fed = as_mlx(gates), as_mlx(wh)
    np.testing.assert_allclose(got, lstm_kernel.truth(*fed), atol=CLOSE[kind], rtol=0)
    graph = as_float64(lstm.steps(*fed))
    # The graph rounds every step to the type, and the steps feed each other.
    np.testing.assert_allclose(got, graph, atol=(2 if kind == "float32" else 16) * CLOSE[kind])


@NEEDS_GXX
@LANGUAGES
@pytest.mark.parametrize("units", SIZES)
def test_more_threads_than_work_and_fewer(
    hosts: dict[Language, Host], language: Language, units: int
) -> None:
    gates, wh = map(as_numpy, lstm_kernel.sample(mx.float32, units))
    one = hosts[language](gates[:3], wh, 1)
    for lanes in (2, 3, 32):
        np.testing.assert_array_equal(hosts[language](gates[:3], wh, lanes), one)


@NEEDS_GXX
@LANGUAGES
def test_gates_that_are_shut_keep_their_digits_and_overflow_nothing(
    hosts: dict[Language, Host], language: Language
) -> None:
    wh = np.zeros((1, 1, 4), dtype=np.float32)
    heard = np.tanh(np.tanh(0.5))
    for output, share in ((-12.0, 1 / (1 + np.exp(12.0))), (-200.0, 0), (200.0, 1)):
        gates = np.array([20.0, 20.0, 0.5, output], dtype=np.float32).reshape(1, 1, 1, 4)
        got = hosts[language](gates, wh)
        np.testing.assert_allclose(got.item(), heard * share, rtol=1e-6)
    gates = np.array([3e38, -3e38, 3e38, 3e38], dtype=np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_allclose(hosts[language](gates, wh).item(), np.tanh(1), rtol=1e-6)


@NEEDS_GXX
@LANGUAGES
def test_what_is_no_number_stays_in_its_row(
    hosts: dict[Language, Host], language: Language
) -> None:
    gates, wh = map(as_numpy, lstm_kernel.sample(mx.float32, 8))
    gates[2, 1, 1, 5] = np.nan
    got = np.isfinite(hosts[language](gates, wh))
    assert not got[3:, 1, 1].any()
    got[2:, 1, 1] = True
    assert got.all()


@NEEDS_GXX
@LANGUAGES
@pytest.mark.parametrize("lost", [None, 0, 1, 2])
def test_no_two_threads_race_and_every_barrier_is_needed(
    tmp_path: Path, language: Language, lost: int | None
) -> None:
    assert language.body.count("TOGETHER();") == 3
    changed = language if lost is None else lstm_host.without_barrier(language, lost)
    assert lstm_host.races(changed, tmp_path / "race") == (lost is not None)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.parametrize(
    ("kind", "size"), [("float", 128), ("__half", 3), ("__nv_bfloat16", lstm_kernel.MOST_UNITS)]
)
def test_nvidias_compiler_takes_it(tmp_path: Path, kind: str, size: int) -> None:
    source = tmp_path / "kernel.cu"
    source.write_text(lstm_host.for_cuda(kind, size))
    command = ["nvcc", "-std=c++17", "-arch=sm_80", "-cubin", "-o", str(tmp_path / "kernel.cubin")]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- what MLX is given ---------------------------------------------------------------------------


def test_metal_is_asked_for_these_arguments_and_no_others() -> None:
    (text,) = lstm_host.metal_texts(METAL, [("float16", 8)])
    signature = text.partition("[[kernel]]")[2].partition(") {")[0]
    assert re.findall(r"(\S+ \w+) \[\[(\w+)", signature) == [
        ("float16_t* gates", "buffer"),
        ("int* gates_shape", "buffer"),
        ("float16_t* wh", "buffer"),
        ("float16_t* states", "buffer"),
        ("uint3 thread_position_in_threadgroup", "thread_position_in_threadgroup"),
        ("uint3 threadgroup_position_in_grid", "threadgroup_position_in_grid"),
        ("uint3 threads_per_threadgroup", "threads_per_threadgroup"),
    ]


def test_small_inputs_lie_in_other_memory_of_metal() -> None:
    # The reason why the text never passes an input on as a pointer.
    small, large = lstm_host.metal_texts(METAL, [("float32", 1), ("bfloat16", 8)])
    assert "const device float* gates" in small
    assert "const constant float* wh" in small
    assert "const device bfloat16_t* wh" in large


def test_another_text_has_another_name() -> None:
    changed = replace(METAL, body=METAL.body + " ")
    assert len({METAL.name, CUDA.name, changed.name}) == 3
    assert METAL.name == replace(METAL).name


def test_threads_are_whole_warps_within_the_limit() -> None:
    assert [lstm_kernel.threads(n) for n in (1, 8, 9, 128, 1024)] == [32, 32, 64, 512, 512]


# --- where a device runs it ----------------------------------------------------------------------

Kernel = Callable[[Language, mx.array, mx.array], mx.array]


def right(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    return lstm.steps(gates, wh)


def swapped(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    i, f, g, o = mx.split(gates, 4, axis=-1)
    return lstm.steps(mx.concatenate([f, i, g, o], axis=-1), wh)


def moved(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    return lstm.steps(gates, mx.concatenate([wh[:, 1:], wh[:, :1]], axis=1))


def rough(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    return lstm.steps(gates, wh) * (1 + 2e-6)


def endless(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    return lstm.steps(gates, wh) / 0


def blank(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    return lstm.steps(gates, wh) * float("nan")


def cut(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    return lstm.steps(gates, wh)[:-1]


def refused(_: Language, gates: mx.array, wh: mx.array) -> mx.array:
    raise RuntimeError("[compile] no such word\nin line 3")


class Device:
    """A GPU that runs what it is given, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.calls: list[int] = []
        monkeypatch.setattr(backend, "on_cpu", lambda: False)
        monkeypatch.setattr(backend, "device_name", lambda _: "Metal")
        monkeypatch.setattr(lstm_kernel, "language", lambda: METAL)
        monkeypatch.setattr(lstm_kernel, "_checks", lstm_kernel.Checks())
        monkeypatch.delenv("SAMEVOICE_LSTM", raising=False)

    def runs(self, kernel: Kernel) -> None:
        def counted(language: Language, gates: mx.array, wh: mx.array) -> mx.array:
            self.calls.append(gates.shape[0])
            return kernel(language, gates, wh)

        self.patch.setattr(lstm_kernel, "run", counted)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield Device(monkeypatch)


def layer_and_input(units: int = 8, dtype: mx.Dtype = mx.float32) -> tuple[BiLSTM, mx.array]:
    mx.random.seed(4)
    layer = BiLSTM(5, units, bidirectional=True)
    layer.set_dtype(dtype)
    return layer, mx.random.normal((2, 11, 5)).astype(dtype)


def plain_graph(layer: BiLSTM, x: mx.array) -> Array:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm, "on_gpu", lstm.in_graph)
        return as_float64(layer(x))


def test_a_right_kernel_is_tried_once_and_used(gpu: Device) -> None:
    gpu.runs(right)
    layer, x = layer_and_input()
    for _ in range(3):
        np.testing.assert_array_equal(as_float64(layer(x)), plain_graph(layer, x))
    assert gpu.calls == [24, 11, 11, 11]


@pytest.mark.parametrize("dtype", lstm_kernel.DTYPES)
@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (swapped, "errs .* times as much"),
        (moved, "errs .* times as much"),
        (blank, "no finite numbers"),
        (endless, "no finite numbers"),
        (cut, r"gave \(23, 2, 3, 8\) instead of \(24, 2, 3, 8\)"),
        (refused, r"RuntimeError: \[compile\] no such word"),
    ],
)
def test_a_wrong_one_is_left_out_with_one_warning(
    gpu: Device, kernel: Kernel, why: str, dtype: mx.Dtype
) -> None:
    gpu.runs(kernel)
    layer, x = layer_and_input(dtype=dtype)
    with pytest.warns(SlowerWarning, match=why) as told:
        first = layer(x)
    assert len(told) == 1
    text = str(told[0].message)
    assert text.startswith("the LSTM kernel is left out on Metal")
    assert "\n" not in text
    assert "samevoice doctor --self-test" in text
    np.testing.assert_array_equal(as_float64(first), plain_graph(layer, x))
    np.testing.assert_array_equal(as_float64(layer(x)), as_float64(first))
    assert gpu.calls == [24]


def test_six_digits_are_too_few_for_float32(gpu: Device) -> None:
    gpu.runs(rough)
    layer, x = layer_and_input()
    with pytest.warns(SlowerWarning, match="errs [0-9.]+ times as much"):
        layer(x)


def test_every_type_and_size_is_tried_and_one_warning_is_enough(gpu: Device) -> None:
    gpu.runs(swapped)
    pairs = [layer_and_input(n, dtype) for n in (4, 8) for dtype in lstm_kernel.DTYPES]
    with pytest.warns(SlowerWarning) as told:
        mx.eval([layer(x) for layer, x in [*pairs, *pairs]])
    assert len(told) == 1
    assert gpu.calls == [24] * 6


def test_one_thread_tries_it_and_all_use_it(gpu: Device) -> None:
    gpu.runs(right)
    layer, x = layer_and_input()
    mx.eval(layer.parameters(), x)
    start, failed = threading.Barrier(6), []

    def work() -> None:
        try:
            start.wait(60)
            mx.eval(layer(x))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(gpu.calls) == [11] * 6 + [24]


def test_what_the_user_draws_stays_what_it_was(gpu: Device) -> None:
    layer, x = layer_and_input()
    mx.random.seed(5)
    wanted = mx.random.normal((3,)).tolist()
    gpu.runs(right)
    mx.random.seed(5)
    mx.eval(layer(x))
    assert gpu.calls == [24, 11]
    assert mx.random.normal((3,)).tolist() == wanted


def test_it_proves_itself_inside_of_a_trace(gpu: Device) -> None:
    gpu.runs(right)
    layer, x = layer_and_input()
    compiled = mx.compile(lambda x: layer(x))
    np.testing.assert_allclose(as_float64(compiled(x)), plain_graph(layer, x), atol=1e-6)
    assert gpu.calls == [24, 11]


def test_it_can_be_switched_off(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.runs(refused)
    monkeypatch.setenv("SAMEVOICE_LSTM", "graph")
    layer, x = layer_and_input()
    np.testing.assert_array_equal(as_float64(layer(x)), plain_graph(layer, x))
    assert gpu.calls == []


def test_without_metal_and_cuda_there_is_none(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.runs(refused)
    monkeypatch.setattr(lstm_kernel, "language", lambda: None)
    layer, x = layer_and_input()
    np.testing.assert_array_equal(as_float64(layer(x)), plain_graph(layer, x))


@pytest.mark.parametrize(
    ("gates", "wh", "taken"),
    [
        (mx.zeros((2, 1, 1, 4)), mx.zeros((1, 1, 4)), True),
        (mx.zeros((0, 1, 1, 4)), mx.zeros((1, 1, 4)), False),
        (mx.zeros((2, 1, 0, 4)), mx.zeros((1, 1, 4)), False),
        (mx.zeros((2, 1, 1, 4)), mx.zeros((1, 1, 4), dtype=mx.float16), False),
        (mx.zeros((1, 1, 1, 4096)), mx.zeros((1, 1024, 4096)), True),
        (mx.zeros((1, 1, 1, 4100)), mx.zeros((1, 1025, 4100)), False),
        (mx.zeros((1 << 15, 1, 1, 4)), mx.zeros((1, 1, 4)), True),
        (mx.zeros(((1 << 15) + 1, 1, 1, 4)), mx.zeros((1, 1, 4)), False),
        (mx.zeros((589, 2, 64, 512)), mx.zeros((2, 128, 512)), True),
        (mx.zeros((589, 2, 256, 512)), mx.zeros((2, 128, 512)), False),
    ],
)
def test_what_it_does_not_take_is_the_graphs(gates: mx.array, wh: mx.array, taken: bool) -> None:
    assert lstm_kernel.fits(gates, wh) is taken


def test_what_is_shared_fits_into_metals_memory() -> None:
    assert METAL.body.count("SHARED float") == 3
    assert 4 * (1 + 1 + 4) * lstm_kernel.MOST_UNITS <= 32 << 10


def test_a_graph_that_rounds_to_tf32_does_not_hide_a_wrong_kernel() -> None:
    gates, wh = lstm_kernel.sample(mx.float32, 128)
    bits = np.array(wh).view(np.uint32)
    rounded = mx.array(((bits + 0x1000) & 0xFFFFE000).view(np.float32))
    truth = lstm_kernel.truth(gates, wh)
    kernels = {kernel: lambda k=kernel: k(METAL, gates, wh) for kernel in (right, moved)}
    found = {k: check(truth, lambda: lstm.steps(gates, rounded), run) for k, run in kernels.items()}
    assert not found[right].fault
    assert found[right].ratio < 0.1
    assert found[moved].fault
