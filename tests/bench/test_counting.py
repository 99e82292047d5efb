"""How much layers have to do, worked by hand."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx.nn.layers import base
from mlx.nn.layers.linear import Linear

from samevoice.bench.counting import Count, of_layers
from samevoice.models.layers import BatchNorm, Conv1d, Conv2d, Module
from samevoice.models.layers.lstm import BiLSTM
from samevoice.models.layers.pooling import StatsPool
from samevoice.models.layers.sincnet import SincConv


class Net(Module):
    def __init__(self, layer: base.Module) -> None:
        super().__init__()
        self.layer = layer

    def __call__(self, x: mx.array) -> mx.array:
        made: mx.array = self.layer(x)
        return made


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        # 20 pixels, each 3 sums over 3 x 3 x 2; 40 numbers in, 60 out, 54 weights.
        (Conv2d(2, 3, 3), (1, 4, 5, 2), {"layer": Count(20 * 3 * 18 * 2, 4 * (40 + 60 + 54))}),
        # Every second row: 2 x 5 pixels.
        (Conv2d(2, 3, 3, (2, 1)), (1, 4, 5, 2), {"layer": Count(1080, 4 * (40 + 30 + 54))}),
        # Its bias is no product.
        (Conv1d(2, 3, 5, bias=True), (2, 7, 2), {"layer": Count(840, 4 * (28 + 42 + 30))}),
        (Linear(4, 5), (2, 3, 4), {"layer": Count(6 * 5 * 4 * 2, 4 * (24 + 30 + 20))}),
        # Both ways: 7 steps of 12 gates over 2 inputs and 3 units.
        (
            BiLSTM(2, 3, bidirectional=True),
            (1, 7, 2),
            {f"layer.{way}": Count(840, 4 * (14 + 21 + 60)) for way in ("forward", "backward")},
        ),
        # 80 filters of 251 taps at 3 places, not the numbers that they are made of.
        (
            SincConv(10, 16000),
            (1, 271, 1),
            {"layer": Count(3 * 80 * 251 * 2, 4 * (271 + 240 + 80 * 251))},
        ),
        (BatchNorm(3), (1, 5, 3), {}),
        (StatsPool(rows=1), (1, 5, 3), {"layer": Count(0, 4 * (15 + 6))}),
    ],
)
def test_work_of_a_layer(
    layer: base.Module, shape: tuple[int, ...], expected: dict[str, Count]
) -> None:
    network = Net(layer)
    found = of_layers(network, lambda: network(mx.zeros(shape)))
    assert {path: one for path, one in found.items() if one != Count()} == expected


def test_a_layer_that_runs_twice_counts_twice() -> None:
    network = Net(Linear(4, 5))
    once = of_layers(network, lambda: network(mx.zeros((1, 4))))
    assert once["layer"].flop == 40

    def twice() -> None:
        for _ in range(2):
            network.layer(mx.zeros((1, 4)))

    assert of_layers(network, twice)["layer"] == once["layer"] * 2
