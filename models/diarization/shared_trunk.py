"""Neighbouring chunks through an embedding's trunk together: the fast tier of the embeddings.

The exact pipeline runs the trunk over each chunk, and at the usual step every second of audio lies
in ten of them. Here chunks in a row share one pass over what they span, and each pools over its
own part. A chunk's features lack the chunk's own mean, though, and the trunk hears the difference:
so only chunks whose means are near each other go together, centred by the middle of these means.
What else differs is that a chunk's edges hear what lies beyond them, which is next to nothing.
A chunk without a neighbour like it goes alone, and is exact.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from samevoice.errors import DiarizationError
from samevoice.models.diarization.frames import Frames
from samevoice.models.layers.fbank import Fbank
from samevoice.models.layers.geometry import num_frames
from samevoice.models.network import Embeds, SharesFrames

# How far a chunk's mean may be from what it is centred by: log power, RMS over the bins. Measured
# (docs/fast.md): 0.4 keeps the speakers of every recording for two to three passes of the trunk
# over it, 0.2 takes three to four, and without a limit one speaker becomes two. A network that
# minds less says so itself, by ``shared_apart``.
APART = 0.4
LONGEST = 3  # durations of a chunk that go through the trunk at once: what bounds the memory
UNIT = 500  # frames of the filterbank that are made at once


@dataclass(frozen=True)
class Grid:
    """Where chunks lie among the frames of the filterbank, and how the trunk thins these out.

    At the usual step a chunk begins on a frame of the trunk, or midway between two. For the latter
    the trunk gives the frames between as well: ``every`` is 2, and a chunk takes every second one.
    At odd steps a chunk takes what is nearest, up to 20 ms off.
    """

    step: int  # samples from one chunk to the next
    hop: int  # samples from one frame of the filterbank to the next
    heard: int  # frames of the filterbank that a chunk has
    longest: int  # and that a group may have
    pooled: int  # frames of the trunk that a chunk has
    stride: int  # frames of the filterbank from one frame of the trunk to the next
    every: int

    @classmethod
    def of(cls, embedding: SharesFrames, frames: Frames) -> Grid:
        fbank, windows = embedding.fbank, embedding.shared_windows
        if not fbank.snip_edges or fbank.fbank_centering_span is not None:
            raise DiarizationError(
                "this embedding mirrors chunks at their edges or centres them by a span "
                "(snip_edges, fbank_centering_span), which chunks cannot share: leave fast off"
            )
        hop, stride = fbank.window.stride, math.prod(window.stride for window in windows)
        heard, longest = (
            num_frames((fbank.window,), count * frames.chunk_samples) for count in (1, LONGEST)
        )
        every = 1 if frames.step_samples % (hop * stride) == 0 else 2
        pooled = num_frames(windows, heard)
        return cls(frames.step_samples, hop, heard, longest, pooled, stride // every, every)

    def span(self, first: int, last: int) -> slice:
        """The frames of the filterbank from one chunk's first to another's last."""
        start, stop = (round(chunk * self.step / self.hop) for chunk in (first, last))
        return slice(start, stop + self.heard)

    def taken(self, first: int, chunk: int) -> slice:
        """What a chunk pools over, of the frames that the trunk gives from chunk ``first`` on."""
        apart = self.span(first, chunk).stop - self.span(first, first).stop
        start = round(apart / self.stride)
        return slice(start, start + self.every * self.pooled, self.every)


def shareable(embedding: Embeds) -> SharesFrames:
    """The network, where it can hear several chunks at once; others are refused."""
    if not isinstance(embedding, SharesFrames):
        raise DiarizationError(
            f"{type(embedding).__name__} cannot share its work between chunks: leave fast off"
        )
    return embedding


class Features:
    """The log mel frames of a stream, as many as are still wanted.

    They are made in units of fixed places, so that nothing depends on how the audio comes.
    """

    def __init__(self, fbank: Fbank) -> None:
        self._fbank = fbank
        self._samples = np.zeros(0, dtype=np.float32)
        self._frames = np.zeros((0, fbank.num_mel_bins), dtype=np.float32)
        self.first = self.end = 0  # of the frames that are held

    def add(self, samples: np.ndarray, *, last: bool = False) -> None:
        self._samples = np.concatenate([self._samples, samples])
        while (count := num_frames((self._fbank.window,), len(self._samples))) >= UNIT:
            self._make(UNIT)
        if last and count > 0:
            self._make(count)

    def _make(self, count: int) -> None:
        kernel, hop, _ = self._fbank.window
        samples = mx.array(self._samples[None, : (count - 1) * hop + kernel])
        made = np.array(self._fbank.log_mel(samples * self._fbank.full_scale)[0])
        self._frames = np.concatenate([self._frames, made])
        self._samples = self._samples[count * hop :].copy()
        self.end += count

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """Frames by their number in the stream."""
        return self._frames[wanted.start - self.first : wanted.stop - self.first]

    def forget(self, before: int) -> None:
        if before > self.first:
            self._frames = self._frames[before - self.first :].copy()
            self.first = before


@dataclass(frozen=True)
class Group:
    """Chunks in a row that go through the trunk together, silent ones among them."""

    masks: Mapping[int, np.ndarray] = field(default_factory=dict)  # chunk -> (S, F)
    means: Mapping[int, np.ndarray] = field(default_factory=dict)  # spoken chunk -> (M,)

    def with_one(self, chunk: int, masks: np.ndarray, mean: np.ndarray | None) -> Group:
        """``mean`` (M,) of what is heard, or None of a chunk in which nobody speaks."""
        means = self.means if mean is None else {**self.means, chunk: mean}
        return Group({**self.masks, chunk: masks}, means)

    @property
    def halves(self) -> tuple[Group, ...]:
        """Itself in two parts, where each has several spoken chunks."""
        if len(self.spoken) < 4:
            return (self,)
        middle = self.spoken[len(self.spoken) // 2]
        return self._part(0, middle), self._part(middle, math.inf)

    def _part(self, first: int, end: float) -> Group:
        own = (self.masks, self.means)
        return Group(*({k: v for k, v in one.items() if first <= k < end} for one in own))

    @property
    def spoken(self) -> tuple[int, ...]:
        return tuple(self.means)

    @property
    def centre(self) -> np.ndarray:
        """(M,): as far from the lowest mean as from the highest."""
        means = np.stack(list(self.means.values()))
        return np.asarray((means.min(axis=0) + means.max(axis=0)) / 2)

    @property
    def apart(self) -> float:
        """How far a mean may be from the centre."""
        low = np.min(list(self.means.values()), axis=0)
        return float(np.sqrt(np.square(low - self.centre).mean()))


class SharedTrunk:
    """Chunks in their order -> their embeddings, each when its group is complete.

    ``apart`` 0 puts every chunk alone, as the exact pipeline does. ``hear`` takes what ``voices``
    takes and gives in its place what stands for its answer.
    """

    def __init__(
        self,
        embedding: SharesFrames,
        frames: Frames,
        silent: np.ndarray,
        apart: float = APART,
        hear: Callable[[Group, np.ndarray | None], list[Any]] | None = None,
    ) -> None:
        self.grid, self.apart = Grid.of(embedding, frames), apart
        self._hear = hear or self.voices
        self._embedding, self._silent = embedding, silent
        self._features = Features(embedding.fbank)
        self._waiting: deque[np.ndarray] = deque()  # masks (S, F) of chunks in no group yet
        self._came = 0  # chunks so far
        self._group = Group()

    def heard(self, waveforms: np.ndarray, masks: np.ndarray) -> list[Any]:
        """(B, N), (B, S, F) -> a (1, S, E) for each chunk whose group is complete by now."""
        self._features.add(self._fresh(waveforms))
        self._waiting.extend(masks)
        self._came += len(waveforms)
        return self._grouped(complete=False)

    def rest(self) -> list[Any]:
        """A (1, S, E) for each chunk that is left at the recording's end."""
        self._features.add(np.zeros(0, dtype=np.float32), last=True)
        found = self._grouped(complete=True)
        # In two, so that two cores end together: half a minute's voices take 0.7 of the time.
        return found + [one for half in self._group.halves for one in self._embedded(half)]

    def _fresh(self, waveforms: np.ndarray) -> np.ndarray:
        """The samples that no chunk before held."""
        rows = waveforms[:, -self.grid.step :].reshape(-1)
        return rows if self._came else np.concatenate([waveforms[0, : -self.grid.step], rows])

    def _grouped(self, complete: bool) -> list[Any]:
        found: list[Any] = []
        while self._waiting:
            chunk = self._came - len(self._waiting)
            span = self.grid.span(chunk, chunk)
            if not complete and span.stop > self._features.end:
                break
            masks = self._waiting.popleft()
            mean = self._features[span].mean(axis=0, dtype=np.float64) if masks.any() else None
            if not self._fits(chunk, grown := self._group.with_one(chunk, masks, mean)):
                found += self._embedded(self._group)
                grown = Group().with_one(chunk, masks, mean)
            self._group = grown
            self._features.forget(self.grid.span(min(grown.masks), chunk).start)
        return found

    def _fits(self, chunk: int, grown: Group) -> bool:
        """Whether a group may have grown by this chunk, and something is saved by it."""
        before = self._group.spoken
        if not before:
            return not self._group.masks
        span = self.grid.span(before[0], chunk)
        overlap = self.grid.span(chunk, chunk).start < self.grid.span(before[-1], before[-1]).stop
        short = span.stop - span.start <= self.grid.longest
        return overlap and short and grown.apart <= self.apart

    def _embedded(self, group: Group) -> list[Any]:
        """What ``hear`` gives of a group and the features (T, M) of all that it spans."""
        if not group.spoken:
            return self._hear(group, None) if group.masks else []
        span = self.grid.span(group.spoken[0], group.spoken[-1])
        return self._hear(group, (self._features[span] - group.centre).astype(np.float32))

    def voices(self, group: Group, features: np.ndarray | None) -> list[np.ndarray]:
        """A (1, S, E) for each of its chunks."""
        frames = None
        if features is not None:
            between = self.grid.every == 2
            frames = self._embedding.shared_frames(mx.array(features[None]), between=between)
        return [self._pooled(group, chunk, frames) for chunk in group.masks]

    def _pooled(self, group: Group, chunk: int, frames: mx.array | None) -> np.ndarray:
        masks = group.masks[chunk]
        if frames is None or chunk not in group.spoken:
            return np.tile(self._silent, (1, len(masks), 1))
        taken = self.grid.taken(group.spoken[0], chunk)
        return np.array(self._embedding.embed(frames[..., taken, :], mx.array(masks[None])))
