from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.activations import ReLU
from mlx.nn.layers.containers import Sequential
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.layers import Module, taps


class Double(Module):
    def __call__(self, x: mx.array, more: mx.array | None = None) -> mx.array:
        return 2 * x if more is None else 2 * x + more


class Inner(Module):
    """A part whose layers are called twice, and one that gives two things."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [Double()]
        self.split = Split()

    def __call__(self, x: mx.array) -> mx.array:
        for layer in [*self.layers, *self.layers]:
            x = layer(x)
        return self.split(x)[0]


class Split(Module):
    def __call__(self, x: mx.array) -> tuple[mx.array, mx.array]:
        return x, x + 1


class Network(Module):
    """4x, then doubled and one added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = Inner(), Double()

    def __call__(self, x: mx.array) -> mx.array:
        return self.last(self.first(x), mx.array(1.0))


def items(heard: Any) -> list[tuple[str, float]]:
    return [(name, value.item()) for name, value in heard.items()]


def test_every_layer_is_heard_under_its_path() -> None:
    network = Network()
    with taps.listen(network) as heard:
        assert network(mx.array(1.0)).item() == 9
    given = [("first.layers.0", 2), ("first.layers.0#2", 4), ("first.split", 4)]
    assert items(heard.outputs) == [*given, ("first", 4), ("last", 9), ("output", 9)]
    took = [("first", 1), ("first.layers.0", 1), ("first.layers.0#2", 2), ("first.split", 4)]
    assert items(heard.inputs) == [*took, ("last", 4)]


def test_the_last_run_is_heard() -> None:
    network = Network()
    with taps.listen(network) as heard:
        network(mx.array(1.0))
        network(mx.array(0.0))
    assert items(heard.outputs)[-1] == ("output", 1)
    assert len(heard.outputs) == 6


def test_silent_before_and_after() -> None:
    network = Network()
    kinds = [type(one) for one in network.modules()]  # type: ignore[no-untyped-call]
    with taps.listen(network) as heard:
        assert taps.active()
        assert isinstance(network.last, Double)
        assert type(network.last).__name__ == "Double"
    with (
        pytest.raises(ValueError, match="first takes"),
        taps.listen(network, {"first": mx.zeros(2)}),
    ):
        network(mx.array(1.0))
    assert not taps.active()
    assert [type(one) for one in network.modules()] == kinds  # type: ignore[no-untyped-call]
    assert network(mx.array(1.0)).item() == 9
    assert not heard.outputs  # of the runs afterwards


def test_other_networks_are_not_heard() -> None:
    network, other = Network(), Network()
    with taps.listen(network) as heard:
        other(mx.array(1.0))
    assert not heard.outputs


def test_those_who_listen_inside_hear_their_own_paths() -> None:
    network = Network()
    with taps.listen(network) as whole:
        network(mx.array(1.0))
        with taps.listen(network.first) as part:
            network(mx.array(1.0))
    assert list(part.outputs) == ["layers.0", "layers.0#2", "split", "output"]
    assert list(whole.outputs)[-2:] == ["last", "output"]


def test_a_layer_with_two_paths_is_heard_under_the_one_that_is_asked_for() -> None:
    network = Network()
    network.last = network.first.layers[0]
    for name in ("last", "first.layers.0"):
        with taps.listen(network, paths=[name]) as heard:
            network(mx.array(1.0))
        assert sum(tap.partition("#")[0] == name for tap in heard.outputs) == 3


def test_a_layer_takes_what_it_is_fed_and_what_came_is_noted() -> None:
    network = Network()
    with taps.listen(network, fed={"first.layers.0#2": mx.array(10.0)}) as heard:
        assert network(mx.array(1.0)).item() == 41
    assert heard.inputs["first.layers.0#2"].item() == 2


def test_a_wrong_shape_is_refused() -> None:
    network = Network()
    with (
        taps.listen(network, fed={"last": mx.zeros(3)}),
        pytest.raises(ValueError, match="last takes"),
    ):
        network(mx.zeros(2))


def test_a_change_is_made_of_what_came_before() -> None:
    network = Network()
    changes = {
        "first.input": lambda given, x: x + 1,
        "last": lambda given, y: given["last.input"] + 100 * given["last.input.1"],
    }
    with taps.listen(network, changes=changes):
        assert network(mx.array(1.0)).item() == 108
        with taps.listen(network, fed={"last": mx.array(1.0)}) as heard:
            network(mx.array(1.0))
    assert heard.inputs["first"].item() == 2
    assert heard.outputs["last"].item() == 101


def test_layers_that_are_mlxs_own_are_heard_and_forms_that_hide_some_step_aside() -> None:
    network = Sequential(Linear(3, 2), ReLU())  # type: ignore[no-untyped-call]
    x = mx.random.normal((1, 3))
    with taps.listen(network) as heard:
        assert not fast.whole_on_cpu()
        network(x)
    assert list(heard.outputs) == ["layers.0", "layers.1", "output"]
    relu = np.maximum(np.array(heard.outputs["layers.0"]), 0)
    np.testing.assert_array_equal(np.array(heard.outputs["output"]), relu)
