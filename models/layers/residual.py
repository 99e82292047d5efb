"""The block that residual networks are stacks of."""

from __future__ import annotations

import mlx.core as mx

from samevoice.models.layers import BatchNorm, Conv2d, Module, relu
from samevoice.models.layers.geometry import Window


class Block(Module):
    """Convolutions beside a shortcut: (B, F, T, C) -> (B, F / stride, T / stride, C')."""

    def __init__(
        self, inputs: int, planes: int, stride: tuple[int, int], bottleneck: bool = False
    ) -> None:
        super().__init__()
        outputs = planes * (4 if bottleneck else 1)
        if bottleneck:
            self.conv1 = Conv2d(inputs, planes, 1)
            self.conv2 = Conv2d(planes, planes, 3, stride)
            self.conv3 = Conv2d(planes, outputs, 1)
            self.bn3 = BatchNorm(outputs)
        else:
            self.conv1 = Conv2d(inputs, planes, 3, stride)
            self.conv2 = Conv2d(planes, planes, 3)
        self.bn1, self.bn2 = BatchNorm(planes), BatchNorm(planes)
        if stride != (1, 1) or inputs != outputs:
            self.shortcut = [Conv2d(inputs, outputs, 1, stride), BatchNorm(outputs)]
        self.depth = 3 if bottleneck else 2

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for i in range(1, self.depth + 1):
            y = self[f"bn{i}"](self[f"conv{i}"](y))
            if i < self.depth:
                y = relu(y)
        for layer in self.get("shortcut", ()):
            x = layer(x)
        return relu(y + x)

    @property
    def windows(self) -> tuple[Window, ...]:
        convs = (self[f"conv{i}"] for i in range(1, self.depth + 1))
        return tuple(Window(c.weight.shape[1], c.stride[1], c.weight.shape[1] // 2) for c in convs)
