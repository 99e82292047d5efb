"""CAM++'s 2-D front on a CPU, in numpy: narrow convolutions that keep every frame.

With 32 channels the sums are short, and moving the numbers costs as much as multiplying them. Four
things make this 1.75 times as fast as the ResNet's form:

- An image lies frame by frame. A filter's three rows are then one run of 3 * C numbers, and every
  third row of a strip makes a matrix where it lies, without a copy. With a stride of two rows it is
  every second one.
- Winograd's F(2, 3) along the frames takes four such products for two outputs instead of six.
  Another two for the rows would save products and cost more in sums.
- Even and odd frames lie apart, so that the sums read and write unbroken memory; numpy takes three
  times as long for lines with gaps. Norm, shortcut and ReLU follow while a strip is in the cache.
- Arrays are kept for the next image, as fresh memory costs a tenth of the time.

Where rows are halved, a frame has exactly twice as many rows as in the next image: output row i
reads from row 2 * i, whichever frame it is in. Outputs that read from two frames are set to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np

from samevoice.models.fast.cpu import Floats, Share
from samevoice.models.fast.winograd import TO_TILE, differences
from samevoice.models.layers import as_float64

# Rows of one product: OpenBLAS packs none of them if it has at most a million multiplications.
ROWS = 320
# The longest array that is kept; ten seconds need 2.8 million numbers.
MOST = 1 << 22


@dataclass(frozen=True)
class Conv:
    """A convolution with its norm folded in, and the shortcut beside it."""

    filters: Floats  # (4, 3 * I, O)
    shift: Floats  # (O,), the shortcut's included
    down: int  # stride of the rows
    shortcut: tuple[Floats, int] | None = None  # (I, O), and its stride


@dataclass(frozen=True)
class Image:
    """(T + 2, P, C): zeros in the first and last frame, the first row and those behind H."""

    rows: Floats  # (2, N * P + 2, C), even frames and odd ones
    frames: int  # T
    height: int  # H
    period: int  # P

    def strip(self, pairs: slice) -> tuple[Floats, Floats]:
        """Pairs of frames, one row late: a frame's zeros behind it instead of in front."""
        size = (pairs.stop - pairs.start) * self.period
        odd, even = pairs.start * self.period + 1, (pairs.start + 1) * self.period + 1
        return self.rows[1, odd : odd + size], self.rows[0, even : even + size]

    def whole(self) -> Floats:
        """(T, H, C)."""
        even, odd = self.rows[:, :-2].reshape(2, -1, self.period, self.rows.shape[-1])
        both = np.stack([odd[:-1], even[1:]], axis=1)
        return both.reshape(-1, *both.shape[2:])[: self.frames, 1 : self.height + 1]


@dataclass(frozen=True)
class Front:
    """The first convolution, on one channel, then the others, each with a ReLU.

    Of each two in ``blocks`` the second one adds what came into the first.
    """

    first: Floats  # (10, O): a pixel's neighbours, frame by frame, and the shift
    blocks: tuple[tuple[Conv, Conv], ...]
    last: Conv | None = None

    def __call__(self, fbank: Floats, share: Share) -> Floats:
        """(T, M) -> (T, M', C)."""
        downs = [conv.down for block in self.blocks for conv in block]
        downs += [self.last.down] if self.last else []
        least = -(-fbank.shape[1] // math.prod(downs)) + 1
        image = _first(fbank, self.first, least * math.prod(downs), share)
        for before, after in self.blocks:
            image = convolved(convolved(image, before, share), after, share, added=image)
        return (convolved(image, self.last, share) if self.last else image).whole()


def _first(fbank: Floats, filters: Floats, period: int, share: Share) -> Image:
    frames, height = fbank.shape
    padded = np.zeros((frames + 4, period + 2), dtype=np.float32)
    padded[1 : frames + 1, 1 : height + 1] = fbank

    def fill(pairs: slice, shift: Floats) -> Floats:
        inputs = kept.array("lines", 4, 3, pairs.stop - pairs.start, period)
        for k, lines in enumerate(inputs):
            for row, line in enumerate(lines):
                line[...] = padded[2 * pairs.start + k :: 2, row : row + period][: len(line)]
        sums = kept.array("products", 2, *shift.shape)
        for k, total in enumerate(sums):
            np.matmul(inputs[k : k + 3].reshape(9, -1).T, filters[:9], out=total)
            total += shift
        return sums

    return _made(fill, (frames, height, period), filters[9], 4 * ROWS, share)


def convolved(image: Image, conv: Conv, share: Share, *, added: Image | None = None) -> Image:
    """The next image; what is added goes through the shortcut, if there is one."""
    down, (_, inputs, outputs) = conv.down, conv.filters.shape
    step = 3 if down == 1 else 2  # rows from one to the next of a product

    def fill(pairs: slice, shift: Floats) -> Floats:
        places = slice(pairs.start * image.period, pairs.stop * image.period + 2)
        behind = slice(places.start + image.period, places.stop + image.period)
        even, odd = image.rows
        lines = kept.array("lines", 4, places.stop - places.start, inputs // 3)
        differences((even[places], odd[places], even[behind], odd[behind]), lines)
        plane, row, _ = lines.strides
        products = kept.array("products", 4, len(shift), outputs)
        for phase in range(step):
            out = products[:, phase::step]
            # What as_strided gives, in a tenth of its time.
            shape, strides = (4, out.shape[1], inputs), (plane, step * down * row, 4)
            runs: Floats = np.ndarray(shape, np.float32, lines, phase * down * row, strides)
            np.matmul(runs, conv.filters, out=out)
        products[1] += shift
        sums = products[:2]
        sums[0] += products[1]
        sums[0] += products[2]
        sums[1] -= products[2]
        sums[1] -= products[3]
        if added:
            for total, beside in zip(sums, added.strip(pairs), strict=True):
                if conv.shortcut:
                    weight, stride = conv.shortcut
                    beside = beside[::stride] @ weight
                total += beside
        return sums

    size = image.frames, -(-image.height // down), image.period // down
    return _made(fill, size, conv.shift, ROWS * step, share)


def _made(
    fill: Callable[[slice, Floats], Floats],
    size: tuple[int, int, int],
    shift: Floats,
    most: int,
    share: Share,
) -> Image:
    """An image, made in strips of at most so many rows: ``fill`` gives odd and even frames."""
    frames, height, period = size
    pairs = -(-frames // 2)
    image = Image(kept.image(2, (pairs + 1) * period + 2, len(shift)), *size)
    even, odd = image.rows
    even[: period + 1] = even[-1] = odd[0] = odd[pairs * period + 1 :] = 0
    count = max(1, most // period)
    shifts, zeros = kept.array("shifts", 2, count * period, len(shift))
    shifts[...], zeros[...] = shift, 0

    def work(start: int) -> None:
        part = slice(start, min(start + count, pairs))
        rows = (part.stop - start) * period
        for total, out in zip(fill(part, shifts[:rows]), image.strip(part), strict=True):
            np.maximum(total, zeros[:rows], out=out)
            out.reshape(-1, period, len(shift))[:, height:] = 0

    share(work, range(0, pairs, count))
    if frames % 2:
        even[pairs * period :] = 0
    return image


class Kept(local):
    """Arrays that a thread writes to again and again."""

    def __init__(self) -> None:
        self.found: dict[str | int, Floats] = {}
        self.images = 0

    def array(self, name: str | int, *shape: int) -> Floats:
        """(...), starting at a cache line: numpy takes half as long there."""
        size = math.prod(shape)
        space = self.found.get(name)
        if space is None or space.size < size:
            space = np.empty(size + 16, dtype=np.float32)
            space = space[-(space.ctypes.data // 4) % 16 :]
            if size <= MOST:
                self.found[name] = space
        return space[:size].reshape(shape)

    def image(self, *shape: int) -> Floats:
        """One of three in turn: a convolution reads the last image and adds the one before it."""
        self.images = (self.images + 1) % 3
        return self.array(self.images, *shape)


kept = Kept()


# From the layers ----------------------------------------------------------------------------------


def of(conv: Any, norm: Any, blocks: Iterable[Any], *last: Any) -> Front:
    """The first convolution and its norm, ``layers.residual.Block``s, and a last such pair."""
    scale, shift = norm.scale_shift()
    taps = (as_float64(conv.weight)[..., 0] * scale[:, None, None]).transpose(2, 1, 0)
    first = np.concatenate([taps.reshape(9, -1), shift[None]]).astype(np.float32)
    behind = _conv_of(*last) if last else None
    return Front(first, tuple(map(_block_of, blocks)), behind)


def _block_of(block: Any) -> tuple[Conv, Conv]:
    before, after = _conv_of(block.conv1, block.bn1), _conv_of(block.conv2, block.bn2)
    if "shortcut" not in block:
        return before, after
    conv, norm = block.shortcut
    scale, shift = norm.scale_shift()
    weight = (as_float64(conv.weight)[:, 0, 0] * scale[:, None]).T
    packed = np.ascontiguousarray(weight, dtype=np.float32), conv.stride[0]
    total = (block.bn2.scale_shift()[1] + shift).astype(np.float32)
    return before, Conv(after.filters, total, after.down, packed)


def _conv_of(conv: Any, norm: Any) -> Conv:
    scale, shift = norm.scale_shift()
    wide = as_float64(conv.weight) * scale[:, None, None, None]  # (O, F, T, I)
    tiles = np.einsum("at,oyti->ayio", TO_TILE, wide)
    filters = np.ascontiguousarray(tiles.reshape(4, -1, len(wide)), dtype=np.float32)
    return Conv(filters, shift.astype(np.float32), conv.stride[0])
