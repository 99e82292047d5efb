"""Numbers written to computed places."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from samevoice.models import nn


@pytest.mark.parametrize(
    ("dtype", "elsewhere"),
    [(mx.int64, True), (mx.uint64, True), (mx.int32, False), (mx.float32, False)],
)
def test_numbers_of_eight_bytes_are_scattered_on_a_cpu(
    dtype: mx.Dtype, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metal refuses: [Scatter::eval_gpu] Does not support int64."""
    asked: list[Any] = []
    stream = mx.stream

    def noted(which: Any) -> Any:
        asked.append(which)
        return stream(which)

    monkeypatch.setattr(mx, "stream", noted)
    x = mx.zeros((2, 3), dtype=dtype)
    index = mx.array([[0], [2]])
    made = (
        nn.put_along(x, index, 4, axis=1),
        nn.add_along(x, index, mx.full((2, 1), 4, dtype=dtype), axis=1),
        nn.put_added(x, (mx.array([0, 1]), mx.array([0, 2])), mx.array(4, dtype=dtype)),
    )
    for one in made:
        assert one.tolist() == [[4, 0, 0], [0, 0, 4]]
        assert one.dtype == dtype
    assert asked == [mx.cpu] * 3 * elsewhere
