"""The blocks that residual networks are stacks of, and such a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from samevoice.models import fast
from samevoice.models.fast import resnet as cpu_resnet
from samevoice.models.layers import BatchNorm, Conv2d, Kept, Module, relu
from samevoice.models.layers.geometry import Window
from samevoice.models.network import interleaved


class Block(Module):
    """Convolutions beside a shortcut: (B, F, T, C) -> (B, F / stride, T / stride, C').

    A ``gate`` weighs what the convolutions give.
    """

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: tuple[int, int],
        bottleneck: bool = False,
        gate: Module | None = None,
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
        if gate is not None:
            self.gate = gate
        self.depth = 3 if bottleneck else 2

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for i in range(1, self.depth + 1):
            y = self[f"bn{i}"](self[f"conv{i}"](y))
            if i < self.depth:
                y = relu(y)
        if "gate" in self:
            y = self.gate(y)
        for layer in self.get("shortcut", ()):
            x = layer(x)
        return relu(y + x)

    @property
    def windows(self) -> tuple[Window, ...]:
        convs = (self[f"conv{i}"] for i in range(1, self.depth + 1))
        return tuple(Window(c.weight.shape[1], c.stride[1], c.weight.shape[1] // 2) for c in convs)


class Trunk(Module):
    """A first convolution and four stages of blocks, the later three with half of the size each.

    ``gate`` makes a gate for each block.
    """

    def __init__(
        self,
        depths: Sequence[int],
        channels: int,
        bottleneck: bool = False,
        gate: Callable[[], Module] | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(1, channels, 3)
        self.bn1 = BatchNorm(channels)
        inputs = channels
        for stage, depth in enumerate(depths):
            planes = channels << stage
            strides = [1 if stage == 0 else 2, *[1] * (depth - 1)]
            blocks = []
            for stride in strides:
                made = gate() if gate else None
                blocks.append(Block(inputs, planes, (stride, stride), bottleneck, made))
                inputs = planes * (4 if bottleneck else 1)
            self[f"layer{stage + 1}"] = blocks
        self._host: Kept[cpu_resnet.Trunk | None] = Kept()
        self._fused: Kept[Callable[[mx.array], mx.array]] = Kept()

    @property
    def blocks(self) -> list[tuple[str, Block]]:
        """Every block with its path below this module."""
        stages = (f"layer{stage}" for stage in range(1, 5))
        return [(f"{s}.{i}", block) for s in stages for i, block in enumerate(self[s])]

    @property
    def windows(self) -> tuple[Window, ...]:
        inner = (window for _, block in self.blocks for window in block.windows)
        return (Window(3, 1, 1), *inner)

    def frames(self, fbank: mx.array, *, between: bool = False) -> mx.array:
        """(B, T, M) -> (B, F, T', C); with the frames that lie ``between``, twice as many.

        Only the last stage runs twice for them: what it sees has half of its stride.
        """
        if fast.whole_on_gpu():
            return self._on_gpu(between)(fbank)
        if fast.whole_on_cpu() and (trunk := self._on_cpu()) is not None:
            return mx.array(trunk(np.array(fbank, dtype=np.float32), between=between))
        return self._by_layers(fbank, between)

    def _on_gpu(self, between: bool) -> Callable[[mx.array], mx.array]:
        """The layers as one function, so that MLX joins what stands between the convolutions."""

        def layers(fbank: mx.array) -> mx.array:
            return self._by_layers(fbank, between)

        return self._fused.of(self.arrays, lambda: mx.compile(layers), between)

    def _by_layers(self, fbank: mx.array, between: bool) -> mx.array:
        x = fbank.swapaxes(1, 2)[..., None].astype(self.conv1.weight.dtype)
        x = relu(self.bn1(self.conv1(x)))
        *early, last = range(1, 5)
        for stage in early:
            x = self._stage(x, stage)
        found = self._stage(x, last)
        if not between or x.shape[2] < 2:
            return found
        return interleaved(found, self._stage(x[:, :, 1:], last))

    def _stage(self, x: mx.array, stage: int) -> mx.array:
        for block in self[f"layer{stage}"]:
            x = block(x)
        return x

    def _on_cpu(self) -> cpu_resnet.Trunk | None:
        """The same layers for a CPU, made anew when a weight was put in another's place."""
        return self._host.of(self.arrays, lambda: cpu_resnet.of(self))
