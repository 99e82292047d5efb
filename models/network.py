"""What networks have in common: a config, and frames that lie over samples."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

import mlx.core as mx
import numpy as np

from samevoice.models.layers import Module, geometry
from samevoice.models.layers.fbank import Fbank
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.pooling import resample

Waveforms = TypeVar("Waveforms", mx.array, np.ndarray)


class Network(Module):
    """Mono audio in; built from a bundle's config, which stays readable as ``config``."""

    hears_audio = True
    at_once: int | None = None  # chunks: of large networks more take memory and save no time

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels = config.get("num_channels", 1)
        if self.hears_audio and channels != 1:
            raise ValueError(f"num_channels is {channels}, but the network takes mono audio")
        self._config = MappingProxyType(dict(config))

    @property
    def config(self) -> dict[str, Any]:
        """What the network was built from."""
        return dict(self._config)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The network's steps along time, from the waveform to its frames."""
        raise NotImplementedError

    def num_frames(self, num_samples: int) -> int:
        """How many frames the network gives for so many samples."""
        return geometry.num_frames(self.windows, num_samples)

    @property
    def fewest_samples(self) -> int:
        """How many samples it takes to give a frame at all."""
        return geometry.fewest_samples(self.windows)

    def receptive_field_size(self, num_frames: int = 1) -> int:
        """How many samples so many frames were computed from."""
        return geometry.receptive_field_size(self.windows, num_frames)

    def receptive_field_center(self, frame: int = 0) -> int:
        """The sample in the middle of what a frame was computed from."""
        return geometry.receptive_field_center(self.windows, frame)


class ArrayNetwork(Network):
    """Any network: arrays in, as the config's ``inputs`` say, and arrays out; it has no frames."""

    hears_audio = False


class Embedding(Network):
    """Audio (B, 1, N) or (B, N), or what its front makes of it, to embeddings (B, E).

    With masks (B, T') the frames are weighted; with (B, S, T') there is one embedding a speaker,
    (B, S, E), all of them from one pass. Masks have any number of frames.
    """

    def __call__(self, x: mx.array, masks: mx.array | None = None) -> mx.array:
        return self.embed(self.frames(x), masks)

    def frames(self, x: mx.array) -> mx.array:
        """Waveforms or features -> what the pooling averages, a batch at a time."""
        raise NotImplementedError

    def pooled(self, frames: mx.array, masks: mx.array | None) -> mx.array:
        """``frames``, (B, S, T'') or None -> (B, S, E), or without masks (B, E)."""
        raise NotImplementedError

    def embed(self, frames: mx.array, masks: mx.array | None = None) -> mx.array:
        """What ``frames`` gave, masks (B, T'') or (B, S, T'') or None -> (B[, S], E)."""
        several = masks is not None and masks.ndim == 3
        if masks is not None and not several:
            masks = masks[:, None]
        if masks is not None and (masks.ndim != 3 or masks.shape[0] != frames.shape[0]):
            raise ValueError(f"masks: {masks.shape} do not fit frames {frames.shape}")
        vectors = self.pooled(frames, masks).astype(mx.float32)
        return vectors[:, 0] if vectors.ndim == 3 and not several else vectors


class FbankEmbedding(Embedding):
    """One that hears Kaldi's filterbank: waveforms, or features (B, T, M)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.fbank = Fbank.from_config(config)

    def compute_fbank(self, waveforms: mx.array) -> mx.array:
        """(B, 1, N) or (B, N) -> (B, T, M)."""
        return self.fbank(as_batch(waveforms))

    def features(self, x: mx.array) -> mx.array:
        """Waveforms, or features as they are -> (B, T, M)."""
        is_fbank = x.ndim == 3 and x.shape[-1] == self.fbank.num_mel_bins
        return x if is_fbank else self.compute_fbank(x)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Those of the filterbank; a network that lays others over them adds its own."""
        return (self.fbank.window,)


class CutEmbedding(Embedding):
    """One whose pooling takes no masks: each voice is what its mask leaves, heard alone.

    So does pyannote with such networks. Who has fewer than ``fewest_frames`` is not heard: the row
    is zeros, which clustering leaves out.
    """

    fewest_frames = 1  # of what ``frames`` gives

    def whole(self, frames: mx.array) -> mx.array:
        """What ``frames`` gave, or a part of it, (B, T, ...) -> (B, E)."""
        raise NotImplementedError

    def pooled(self, frames: mx.array, masks: mx.array | None) -> mx.array:
        if masks is None:
            return self.whole(frames)
        heard = np.array(resample(masks.astype(mx.float32), frames.shape[1])) > 0.5
        pairs = [(x, np.flatnonzero(m)) for x, of in zip(frames, heard, strict=True) for m in of]
        cut = (x[mx.array(kept)] for x, kept in pairs if len(kept) >= self.fewest_frames)
        made = [self.whole(one[None])[0] for one in cut]
        silent = mx.zeros_like(made[0]) if made else mx.zeros((self.dimension,))
        voices = iter(made)
        rows = [next(voices) if len(k) >= self.fewest_frames else silent for _, k in pairs]
        return mx.stack(rows).reshape(*masks.shape[:2], -1)

    @property
    def dimension(self) -> int:
        """How many values an embedding has."""
        return int(self.config["embed_dim"])


@runtime_checkable
class Embeds(Protocol):
    """What a pipeline asks of an embedding network, whatever it hears and however it pools.

    ``frames``: chunks (B, N) -> what masks weigh, once a chunk. ``embed``: that, and masks
    (B, S, F) of any number of frames -> (B, S, E), all finite, of empty masks too.
    """

    def frames(self, x: mx.array) -> mx.array: ...

    def embed(self, frames: mx.array, masks: mx.array | None = None) -> mx.array: ...


@runtime_checkable
class SharesFrames(Embeds, Protocol):
    """An embedding network that can hear a stretch of several chunks at once.

    ``shared_frames``: features of the stretch (B, T, M) -> (B, ..., T', C), with the frames
    ``between`` twice as many. ``shared_windows``: from the features to these frames.
    """

    fbank: Fbank

    @property
    def shared_windows(self) -> tuple[Window, ...]: ...

    def shared_frames(self, features: mx.array, *, between: bool) -> mx.array: ...


class Stream(Protocol):
    """One recording in pieces of any length (N,) -> (T, classes), the frames that are complete."""

    def __call__(self, samples: np.ndarray) -> np.ndarray: ...

    def end(self) -> np.ndarray:
        """The frames that are left."""
        ...


@runtime_checkable
class Streams(Protocol):
    """A segmentation that remembers what it heard, and hears a recording in pieces."""

    def stream(self) -> Stream: ...


def interleaved(x: mx.array, y: mx.array) -> mx.array:
    """(..., T, C), (..., T or T - 1, C) -> x's first frame, y's first, x's second, ..."""
    count, channels = x.shape[-2:]
    missing = [(0, 0)] * (x.ndim - 2) + [(0, count - y.shape[-2]), (0, 0)]
    both = mx.stack([x, mx.pad(y, missing)], axis=-2).reshape(*x.shape[:-2], 2 * count, channels)
    return both[..., : count + y.shape[-2], :]


def as_batch(waveforms: Waveforms) -> Waveforms:
    """(B, 1, N) or (B, N) -> (B, N)."""
    if waveforms.ndim == 3 and waveforms.shape[1] == 1:
        return waveforms[:, 0]
    if waveforms.ndim != 2:
        raise ValueError(f"waveforms: (B, 1, N) or (B, N) wanted, got {waveforms.shape}")
    return waveforms
