from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models.fast import cpu
from samevoice.models.layers import taps
from samevoice.models.layers.lstm import BiLSTM, in_graph, on_host

LARGE = 20.0  # opens or, negated, shuts a gate


def one_unit(bias: list[float]) -> BiLSTM:
    """One input, one unit; nothing recurs, the input reaches the cell gate only."""
    layer = BiLSTM(1, 1, bidirectional=False)
    layer.forward.Wx = mx.array([[0.0], [0.0], [1.0], [0.0]])
    layer.forward.Wh = mx.zeros((4, 1))
    layer.forward.bias = mx.array(bias)
    return layer


@pytest.mark.parametrize("form", [on_host, in_graph])
@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        # All open: the cell adds up tanh(0.5) each step.
        ([LARGE, LARGE, 0.0, LARGE], [np.tanh(k * np.tanh(0.5)) for k in (1, 2, 3)]),
        # Forget shut: every step alone. A swap of i and f would give zeros.
        ([LARGE, -LARGE, 0.0, LARGE], [np.tanh(np.tanh(0.5))] * 3),
        # Input shut, or output shut: silence.
        ([-LARGE, LARGE, 0.0, LARGE], [0.0] * 3),
        ([LARGE, LARGE, 0.0, -LARGE], [0.0] * 3),
    ],
)
def test_gate_order(form: Any, bias: list[float], expected: list[float]) -> None:
    x = mx.full((3, 1, 1), 0.5)
    (got,) = form([x], [one_unit(bias).forward])
    np.testing.assert_allclose(np.array(got)[:, 0, 0], expected, atol=1e-6)


def test_backward_starts_at_the_end_and_stands_second() -> None:
    layer = BiLSTM(1, 1, bidirectional=True)
    single = one_unit([LARGE, LARGE, 0.0, LARGE]).forward
    for way in layer.ways:
        way.update(single.parameters())
    got = np.array(layer(mx.array([1.0, 0.0, 0.0]).reshape(1, 3, 1)))[0]
    heard = np.tanh(np.tanh(1.0))
    np.testing.assert_allclose(got[:, 0], [heard] * 3, atol=1e-6)
    np.testing.assert_allclose(got[:, 1], [heard, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("ways", [1, 2])
def test_host_and_graph_agree(batch: int, ways: int) -> None:
    mx.random.seed(1)
    layers = [BiLSTM(5, 8, bidirectional=False).forward for _ in range(ways)]
    inputs = [mx.random.normal((17, batch, 5)) for _ in range(ways)]
    for host, graph in zip(on_host(inputs, layers), in_graph(inputs, layers), strict=True):
        assert host.shape == graph.shape == (17, batch, 8)
        np.testing.assert_allclose(np.array(host), np.array(graph), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 200])
def test_blocks_of_steps_follow_each_other(batch: int) -> None:
    # 300 steps are several blocks for each of these, the last one shorter than the others.
    mx.random.seed(3)
    layers = [BiLSTM(5, 8, bidirectional=False).forward for _ in range(2)]
    inputs = [mx.random.normal((301, batch, 5)) for _ in range(2)]
    for host, graph in zip(on_host(inputs, layers), in_graph(inputs, layers), strict=True):
        np.testing.assert_allclose(np.array(host), np.array(graph), atol=2e-6)


@pytest.mark.parametrize("batch", [1, 7])
def test_the_same_bytes_on_one_core(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    mx.random.seed(4)
    layers = [BiLSTM(5, 8, bidirectional=False).forward for _ in range(2)]
    inputs = [mx.random.normal((301, batch, 5)) for _ in range(2)]
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(cpu, "cores", lambda cores=cores: cores)
        found.append([np.array(y).tobytes() for y in on_host(inputs, layers)])
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_stays_close(dtype: mx.Dtype) -> None:
    mx.random.seed(2)
    layer = BiLSTM(5, 8, bidirectional=True)
    x = mx.random.normal((2, 11, 5))
    want = layer(x)
    layer.set_dtype(dtype)
    got = layer(x.astype(dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(np.array(got.astype(mx.float32)), np.array(want), atol=0.05)


def test_a_direction_can_be_fed_alone() -> None:
    layer = BiLSTM(3, 4, bidirectional=True)
    x, other = mx.ones((1, 6, 3)), mx.zeros((1, 6, 3))
    with taps.listen(layer, {"backward": other}) as heard:
        layer(x)
    plain, zero = np.array(layer(x)), np.array(layer(other))
    np.testing.assert_array_equal(np.array(heard.outputs["forward"]), plain[..., :4])
    np.testing.assert_array_equal(np.array(heard.outputs["backward"]), zero[..., 4:])


@pytest.mark.parametrize("form", [on_host, in_graph])
def test_a_gate_that_is_nearly_shut_keeps_its_digits(form: Any) -> None:
    # sigmoid(-12) = 6e-6; by way of tanh, float32 would have one digit of it.
    x = mx.full((1, 1, 1), 0.5)
    (got,) = form([x], [one_unit([LARGE, LARGE, 0.0, -12.0]).forward])
    want = np.tanh(np.tanh(0.5)) / (1 + np.exp(12.0))
    np.testing.assert_allclose(got.item(), want, rtol=1e-6)
    (shut,) = form([x], [one_unit([LARGE, LARGE, 0.0, -200.0]).forward])
    assert shut.item() == 0


def test_numpys_threads_are_given_back() -> None:
    read, _ = cpu._openblas()
    if read is None:
        pytest.skip("this numpy has no OpenBLAS of its own")
    before = read()
    with cpu.one_blas_thread():
        assert read() == 1
    assert read() == before
