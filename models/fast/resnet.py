"""A ResNet's trunk on a CPU, in numpy: MLX's CPU kernels run one thread, an operation at a time.

3x3 convolutions take Winograd's F(2x2, 3x3): 16 products for four outputs instead of 36, with
normalisation, shortcut and ReLU done while a strip of the image is still in the cache, and chunks
shared out among the cores. Measured on 2 cores (docs/benchmarks.md): half the time of nine shifted
products, and of torch's trunk. The sums are shorter, so the error is smaller than that of either.

An image lies as (H + 2, 2, W / 2 + 1, C): rows and columns padded with zeros, columns parted into
even and odd ones, so that every step below reads unbroken memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from samevoice.models.fast.cpu import Floats, Share, one_blas_thread, stacked
from samevoice.models.fast.front import Front
from samevoice.models.fast.front import of as front_of
from samevoice.models.fast.winograd import TO_TILE, differences
from samevoice.models.layers import BatchNorm, Conv2d, arrays_of
from samevoice.models.layers.simam import LAMBDA, SimAM

# Tiles that are worked on at once: enough for a product to be worth its call, few enough for what
# they leave to be in the cache when it is wanted again.
TILES = 512


@dataclass(frozen=True)
class Conv:
    """A convolution and the normalisation behind it, folded into the filters in float64."""

    filters: Floats  # Winograd's (16, I, O), or (K * K * I, O)
    shift: Floats  # (O,)
    kernel: int
    stride: tuple[int, int]  # of rows and columns

    @classmethod
    def of(
        cls,
        weight: Floats,
        stride: tuple[int, int],
        scale: NDArray[np.float64],
        shift: NDArray[np.float64],
    ) -> Conv:
        """(O, K, K, I), and what the normalisation does to each output, (O,) and (O,)."""
        wide = weight.astype(np.float64) * scale[:, None, None, None]
        outputs, kernel, _, inputs = weight.shape
        # One channel alone gives products that are all overhead.
        if (kernel, stride) == (3, (1, 1)) and inputs > 1:
            tiles = np.einsum("ai,oijc,bj->abco", TO_TILE, wide, TO_TILE)
            filters = tiles.reshape(16, inputs, outputs)
        else:
            filters = wide.transpose(1, 2, 3, 0).reshape(-1, outputs)
        packed = np.ascontiguousarray(filters, dtype=np.float32)
        return cls(packed, shift.astype(np.float32), kernel, stride)

    @property
    def winograd(self) -> bool:
        return self.filters.ndim == 3


@dataclass(frozen=True)
class Step:
    """One block: convolutions, each with a ReLU, the last one after the shortcut was added."""

    convs: tuple[Conv, ...]
    shortcut: Conv | None = None
    gated: bool = False  # by SimAM, before the shortcut is added


@dataclass(frozen=True)
class Trunk:
    """The first convolution and all blocks, those of the last stage apart.

    Where the first stage keeps its size it belongs to the front, which has 32 channels.
    """

    first: Conv | Front
    blocks: tuple[Step, ...]
    last: tuple[Step, ...]

    def __call__(self, fbank: Floats, *, between: bool = False) -> Floats:
        """(B, T, M) -> (B, F, T', C); with the frames ``between``, about twice as many."""
        with one_blas_thread():
            return stacked(
                len(fbank), lambda number, share: self._run(fbank[number], share, between)
            )

    def _run(self, fbank: Floats, share: Share, between: bool) -> Floats:
        """(T, M) -> (F, T', C)."""
        size = fbank.shape[1], fbank.shape[0]
        if isinstance(self.first, Front):
            image = parted(self.first(fbank, share).swapaxes(0, 1))
        else:
            image, size = convolved(parted(fbank.T[..., None]), size, self.first, share)
        image, size = _blocks(image, size, self.blocks, share)
        found = whole(*_blocks(image, size, self.last, share))
        if not between or size[1] < 2:
            return found
        later = whole(image, size)[:, 1:]
        beside = whole(*_blocks(parted(later), later.shape[:2], self.last, share))
        both = np.empty((len(found), found.shape[1] + beside.shape[1], found.shape[2]), np.float32)
        both[:, ::2], both[:, 1::2] = found, beside
        return both


Size = tuple[int, int]


def _blocks(image: Floats, size: Size, blocks: Sequence[Step], share: Share) -> tuple[Floats, Size]:
    for step in blocks:
        image, size = block(image, size, step, share)
    return image, size


def block(image: Floats, size: Size, step: Step, share: Share) -> tuple[Floats, Size]:
    beside, into, after = image, image, size
    for conv in step.convs[:-1]:
        into, after = convolved(into, after, conv, share)
    if step.shortcut is not None:
        beside, _ = convolved(image, size, step.shortcut, share, rectified=False)
    if step.gated:
        made, after = convolved(into, after, step.convs[-1], share, rectified=False)
        gate(made, after, beside, share)
        return made, after
    return convolved(into, after, step.convs[-1], share, added=beside)


def gate(image: Floats, size: Size, added: Floats, share: Share) -> None:
    """SimAM, what is ``added`` and a ReLU, in place; zeros beyond the edges stay."""
    height, width = size
    edges = _strips(image.shape[0] // 2 - 1, image.shape[2] - 1)
    parts = range(len(edges) - 1)
    # The rows of each strip; zeros above and below belong to none.
    strips = [image[2 * edges[k] + 1 : 2 * edges[k + 1] + 1] for k in parts]
    sums = np.zeros((len(parts), image.shape[-1]))

    def add(part: int) -> None:
        sums[part] = _over_pixels(strips[part])

    share(add, parts)
    mean = (sums.sum(axis=0) / (height * width)).astype(np.float32)

    def square(part: int) -> None:
        sums[part] = _over_pixels(np.square(strips[part] - mean))

    share(square, parts)
    # Each zero that pads the image counted as one mean.
    beyond = sum(strip[..., 0].size for strip in strips) - height * width
    squares = sums.sum(axis=0) - beyond * np.square(mean.astype(np.float64))
    with np.errstate(invalid="ignore"):  # of a single value
        variance = squares / np.float64(height * width - 1)
    inverse = (-0.25 / (variance + LAMBDA)).astype(np.float32)

    def weigh(part: int) -> None:
        strip = strips[part]
        gates = np.square(strip - mean)
        gates *= inverse
        gates -= np.float32(0.5)
        np.exp(gates, out=gates)
        gates += np.float32(1)
        np.divide(strip, gates, out=strip)
        strip += added[2 * edges[part] + 1 : 2 * edges[part + 1] + 1]
        np.maximum(strip, 0, out=strip)

    share(weigh, parts)


def _over_pixels(strip: Floats) -> NDArray[np.float64]:
    """(R, 2, W, C) -> (C,): row by row, then all rows in float64."""
    found: NDArray[np.float64] = strip.sum(axis=2).sum(axis=(0, 1), dtype=np.float64)
    return found


# Convolutions -------------------------------------------------------------------------------------


def convolved(
    image: Floats,
    size: Size,
    conv: Conv,
    share: Share,
    *,
    added: Floats | None = None,
    rectified: bool = True,
) -> tuple[Floats, Size]:
    """An image and how high and wide it is without padding -> the next one, and its size."""
    height, width = (-(-n // stride) for n, stride in zip(size, conv.stride, strict=True))
    rows, columns = -(-height // 2), -(-width // 2)
    outputs = conv.filters.shape[-1]
    made = np.zeros((2 * rows + 2, 2, columns + 1, outputs), dtype=np.float32)

    edges = _strips(rows, columns)
    run = _winograd if conv.winograd else _gathered

    def work(part: int) -> None:
        tiles = slice(edges[part], edges[part + 1])
        run(image, made, conv, tiles, columns)
        beside = [None] * 4 if added is None else _planes(added, tiles, columns)
        for plane, other in zip(_planes(made, tiles, columns), beside, strict=True):
            plane += conv.shift
            if other is not None:
                plane += other
            if rectified:
                np.maximum(plane, 0, out=plane)

    share(work, range(len(edges) - 1))
    # What was computed beyond the edges pads the next layer.
    made[height + 1 :] = 0
    if width % 2:
        made[:, 0, columns] = 0
    return made, (height, width)


def _strips(rows: int, columns: int) -> list[int]:
    """Where strips of about TILES tiles begin, and the end: alike and even in number.

    A chunk alone on two cores takes 0.87 of the time that it took with whatever was left over as
    the last strip. How many cores there are must not matter: where a row lies in a product changes
    how it is rounded.
    """
    count = 2 * math.ceil(rows * columns / TILES / 2)
    edges = np.linspace(0, rows, min(rows, count) + 1)
    return [round(edge) for edge in edges.tolist()]


def _planes(image: Floats, tiles: slice, columns: int) -> list[Floats]:
    """The four phases of a strip: upper and lower rows of its tiles, left and right columns."""
    above, below = 2 * tiles.start + 1, 2 * tiles.stop
    rows = (image[above:below:2], image[above + 1 : below + 1 : 2])
    return [part for row in rows for part in (row[:, 1, :columns], row[:, 0, 1:])]


def _winograd(image: Floats, made: Floats, conv: Conv, tiles: slice, columns: int) -> None:
    """A strip of tiles: each (4, 4) patch -> (2, 2) outputs."""
    count, channels = tiles.stop - tiles.start, image.shape[-1]
    outputs = conv.filters.shape[-1]
    above = 2 * tiles.start
    r0, r1, r2, r3 = (image[above + k : above + k + 2 * count : 2] for k in range(4))
    rows = np.empty((4, *r0.shape), dtype=np.float32)
    differences((r0, r1, r2, r3), rows)
    patches = np.empty((4, 4, count, columns, channels), dtype=np.float32)
    left, right = rows[:, :, 0], rows[:, :, 1]
    phases = (left[..., :columns, :], right[..., :columns, :], left[..., 1:, :], right[..., 1:, :])
    differences(phases, patches.swapaxes(0, 1))
    products = np.empty((16, count * columns, outputs), dtype=np.float32)
    np.matmul(patches.reshape(16, -1, channels), conv.filters, out=products)
    m = products.reshape(4, 4, count, columns, outputs)
    pairs = np.empty((2, 4, count, columns, outputs), dtype=np.float32)
    _sums(m, pairs[0], pairs[1])
    upper_left, upper_right, lower_left, lower_right = _planes(made, tiles, columns)
    _sums(pairs[0], upper_left, upper_right)
    _sums(pairs[1], lower_left, lower_right)


def _sums(x: Floats, first: Floats, second: Floats) -> None:
    """Four lines of products -> two of outputs."""
    np.add(x[1], x[2], out=first)
    np.subtract(x[1], x[2], out=second)
    first += x[0]
    second -= x[3]


def _gathered(image: Floats, made: Floats, conv: Conv, tiles: slice, columns: int) -> None:
    """The same strip by one product over all of a filter's inputs at once."""
    planes = _planes(made, tiles, columns)
    count, (down, across) = tiles.stop - tiles.start, conv.stride
    # Output row 2i + a reads from padded row down * (2i + a); a 1x1 filter has only the middle.
    offsets = range(3) if conv.kernel == 3 else (1,)
    for place, plane in enumerate(planes):
        row, column = divmod(place, 2)
        reads = [
            _read(
                image, down * row + dy, across * column + dx, tiles.start, plane.shape, conv.stride
            )
            for dy in offsets
            for dx in offsets
        ]
        inputs = np.concatenate(reads, axis=-1).reshape(count * columns, -1)
        plane[...] = (inputs @ conv.filters).reshape(plane.shape)


def _read(
    image: Floats,
    row: int,
    column: int,
    start: int,
    shape: tuple[int, ...],
    stride: tuple[int, int],
) -> Floats:
    """Padded pixels (row + 2 * down * i, column + 2 * across * j), zeros where there are none."""
    count, columns, _ = shape
    down, across = stride
    channels = image.shape[-1]
    rows = image[2 * down * start + row :: 2 * down][:count, column % 2]
    found = rows[:, column // 2 :: across][:, :columns]
    if found.shape[:2] == (count, columns):
        return found
    padded = np.zeros((count, columns, channels), dtype=np.float32)
    padded[: found.shape[0], : found.shape[1]] = found
    return padded


# Images -------------------------------------------------------------------------------------------


def parted(image: Floats) -> Floats:
    """(H, W, C) -> (H + 2, 2, W / 2 + 1, C), padded."""
    height, width, channels = image.shape
    rows, columns = -(-height // 2), -(-width // 2)
    padded = np.zeros((2 * rows + 2, 2 * columns + 2, channels), dtype=np.float32)
    padded[1 : height + 1, 1 : width + 1] = image
    apart = padded.reshape(2 * rows + 2, columns + 1, 2, channels)
    return np.ascontiguousarray(apart.swapaxes(1, 2))


def whole(image: Floats, size: Size) -> Floats:
    """The way back: (H, W, C)."""
    height, width = size
    together = image.swapaxes(1, 2).reshape(image.shape[0], -1, image.shape[-1])
    return together[1 : height + 1, 1 : width + 1]


# From the layers ----------------------------------------------------------------------------------


def of(resnet: Any) -> Trunk | None:
    """The form of a ``layers.residual.Trunk``, or None where it would compute otherwise."""
    blocks = [block for _, block in resnet.blocks]
    if not are_plain([resnet.conv1, resnet.bn1, *blocks], (Conv2d, BatchNorm, SimAM)):
        return None
    steps = tuple(map(step_of, blocks))
    first, last = len(resnet.layer1), len(blocks) - len(resnet.layer4)
    # Sums over 32 channels are short: with the front's form the stage takes 0.57 of its time.
    if any(step.shortcut or step.gated or len(step.convs) > 2 for step in steps[:first]):
        return Trunk(conv_of(resnet.conv1, resnet.bn1), steps[:last], steps[last:])
    front = front_of(resnet.conv1, resnet.bn1, resnet.layer1)
    return Trunk(front, steps[first:last], steps[last:])


def step_of(block: Any) -> Step:
    """Of a ``layers.residual.Block``."""
    numbers = range(1, block.depth + 1)
    convs = tuple(conv_of(block[f"conv{i}"], block[f"bn{i}"]) for i in numbers)
    shortcut = conv_of(*block.shortcut) if "shortcut" in block else None
    return Step(convs, shortcut, "gate" in block)


def conv_of(conv: Any, norm: Any) -> Conv:
    return Conv.of(np.array(conv.weight), conv.stride, *norm.scale_shift())


def are_plain(modules: Iterable[Any], kinds: tuple[type, ...]) -> bool:
    """Whether every layer is of these kinds, not of a subclass, and computes in float32."""
    layers = [one for module in modules for one in module.modules() if not one.children()]
    return all(type(one) in kinds for one in layers) and all(
        array.dtype == mx.float32 for module in modules for array in arrays_of(module)
    )
