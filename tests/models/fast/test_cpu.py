from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models.fast import cpu


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (6, 7), (10, 125)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_same_as_mlx_convolution(
    size: tuple[int, int], stride: tuple[int, int], kernel: int
) -> None:
    mx.random.seed(0)
    x = mx.random.normal((2, *size, 3))
    weight = mx.random.normal((4, kernel, kernel, 3))
    want = mx.conv2d(x, weight, stride=stride, padding=kernel // 2)
    got = cpu.conv2d(x, weight, stride)
    assert got.shape == want.shape
    np.testing.assert_allclose(np.array(got), np.array(want), atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_same_as_mlx_convolution_along_time(
    frames: int, stride: int, dilation: int, kernel: int
) -> None:
    mx.random.seed(0)
    x = mx.random.normal((2, frames, 3))
    weight = mx.random.normal((4, kernel, 3))
    padding = kernel // 2 * dilation
    want = mx.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation)
    got = cpu.conv1d(x, weight, stride, dilation, padding)
    assert got.shape == want.shape
    np.testing.assert_allclose(np.array(got), np.array(want), atol=1e-5)


def test_kernel_is_not_transposed() -> None:
    # One pixel at row 1, column 2; one tap that reads the pixel above (torch correlates).
    x = np.zeros((1, 3, 4, 1), dtype=np.float32)
    x[0, 1, 2, 0] = 1
    weight = np.zeros((1, 3, 3, 1), dtype=np.float32)
    weight[0, 0, 1, 0] = 7
    got = np.array(cpu.conv2d(mx.array(x), mx.array(weight), (1, 1)))
    assert got[0, 2, 2, 0] == 7
    assert np.count_nonzero(got) == 1


def test_dtype_is_kept() -> None:
    x, weight = mx.ones((1, 4, 4, 2), dtype=mx.bfloat16), mx.ones((2, 3, 3, 2), dtype=mx.bfloat16)
    got = cpu.conv2d(x, weight, (1, 1))
    assert got.dtype == mx.bfloat16
    assert got[0, 1, 1, 0].item() == 18
    got = cpu.conv1d(x[0], weight[0], 1, 1, 1)
    assert got.dtype == mx.bfloat16
    assert got[0, 1, 0].item() == 6


class Threads:
    """A BLAS that remembers how many threads it was given."""

    def __init__(self, count: int) -> None:
        self.count = count

    def read(self) -> int:
        return self.count

    def write(self, count: int) -> None:
        self.count = count


def test_one_blas_thread_until_the_last_caller_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    blas = Threads(4)
    monkeypatch.setattr(cpu, "_openblas", lambda: (blas.read, blas.write))
    inside, leave = Event(), Event()

    def first() -> None:
        with cpu.one_blas_thread():
            inside.set()
            leave.wait(60)

    thread = Thread(target=first)
    thread.start()
    inside.wait(60)
    with cpu.one_blas_thread():
        leave.set()
        thread.join()
        assert blas.count == 1  # the first has left, the second has not
    assert blas.count == 4
    with pytest.raises(RuntimeError), cpu.one_blas_thread(), cpu.one_blas_thread():
        raise RuntimeError
    assert blas.count == 4


def test_what_is_made_ahead_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(number: int) -> np.ndarray:
        made.append(number)
        return np.full(1, number, dtype=np.float32)

    for cores in (1, 2):
        monkeypatch.setattr(cpu, "cores", lambda cores=cores: cores)
        made.clear()
        got = []
        for place, found in enumerate(cpu.ahead(make, range(5))):
            got.append(found.item())
            assert len(made) <= place + cores  # never so far that a buffer in use is written to
        assert got == [*range(5)]
    assert list(cpu.ahead(make, [])) == []


def test_a_gate_by_itself() -> None:
    # One unit, one input: gates i, f, g, o stand as -i, -f, -o, g.
    wx = np.array([[1], [2], [3], [4]], dtype=np.float32)
    wh, bias = 10 * wx, 100 * wx[:, 0]
    gates = cpu.Gates.of([(wx, wh, bias), (-wx, -wh, -bias)])
    for got, times in ((gates.wx, 1), (gates.wh, 10), (gates.bias, 100)):
        assert got.shape == (4, 2, 1, 1)
        assert (got[:, 0, 0, 0] / times).tolist() == [-1, -2, -4, 3]
        assert (got[:, 1, 0, 0] / times).tolist() == [1, 2, 4, -3]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_a_containers_cores_count(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(cpu, "CONTAINER", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu.all_cores() == cores
    with cpu.on_cores(1):
        assert cpu.cores() == 1
    assert cpu.cores() == cores
