from __future__ import annotations

import mlx.core as mx
import pytest

from samevoice.models.layers import taps


def double(x: mx.array) -> mx.array:
    return 2 * x


def test_silent_outside() -> None:
    assert not taps.active()
    assert taps.call("a", double, mx.array(1.0)).item() == 2
    with taps.record() as seen:
        pass
    assert seen == {}


def test_record_and_replace() -> None:
    with taps.record() as seen, taps.replace({"b": mx.array(10.0)}):
        x = taps.call("a", double, mx.array(1.0))
        x = taps.call("b", double, x)
    assert [(name, value.item()) for name, value in seen.items()] == [("a", 2), ("b", 20)]
    assert x.item() == 20
    assert not taps.active()


def test_a_wrong_shape_is_refused() -> None:
    with taps.replace({"a": mx.zeros(3)}), pytest.raises(ValueError, match="a takes"):
        taps.call("a", double, mx.zeros(2))


def test_what_reaches_a_layer_is_heard_before_it_is_replaced() -> None:
    with taps.hear() as heard, taps.replace({"b": mx.array(10.0)}):
        taps.call("b", double, taps.call("a", double, mx.array(1.0)))
    assert {name: value.item() for name, value in heard.items()} == {"a": 1, "b": 2}
    assert not taps.active()
