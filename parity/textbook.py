"""Layers as data, and what each kind of layer computes, word for word from its definition.

Numpy and scipy in float64 and nothing else, so that neither side of a comparison can hide a mistake
in it. A layer is its kind, its tensors as MLX lays them out, and its settings; ``compute`` runs it
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax, ndtr, softmax

from samevoice.parity.metrics import Array

Pair = tuple[int, int]  # padding before and behind


@dataclass(frozen=True)
class Layer:
    """One layer of a network: ``kind`` names its definition, "" where there is none."""

    kind: str
    path: str
    tensors: Mapping[str, Array] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def with_tensors(self, **changed: Array) -> Layer:
        return replace(self, tensors={**self.tensors, **changed})

    def having(self, **changed: Any) -> Layer:
        return replace(self, settings={**self.settings, **changed})


def compute(layer: Layer, x: Array, masks: Array | None = None) -> Array | None:
    """What the layer gives for ``x``, in float32; None where its kind has no definition here."""
    if layer.kind not in DEFINITIONS:
        return None
    if layer.settings.get("left_out"):
        return np.asarray(x, np.float32)
    wide = np.asarray(x, np.float64)
    tensors = {name: np.asarray(one, np.float64) for name, one in layer.tensors.items()}
    with np.errstate(all="ignore"):
        found = DEFINITIONS[layer.kind](wide, tensors, {**layer.settings, "masks": masks})
        return np.asarray(found, np.float32)


# Layers with weights ------------------------------------------------------------------------------

Tensors = Mapping[str, Array]
Settings = Mapping[str, Any]


def convolution(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, *S, I), weight (O, *K, I / groups) -> (B, *S', O)."""
    weight = t["weight"]
    axes = range(1, weight.ndim - 1)
    count = len(axes)
    strides, dilations = s.get("stride", (1,) * count), s.get("dilation", (1,) * count)
    pads = [(0, 0), *s.get("padding", [(0, 0)] * count), (0, 0)]
    x = np.pad(x, pads, mode="reflect" if s.get("pads") == "reflect" else "constant")
    spans = [d * (weight.shape[a] - 1) + 1 for a, d in zip(axes, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, axis=tuple(axes))
    steps = tuple(slice(None, None, n) for n in strides)
    apart = tuple(slice(None, None, n) for n in dilations)
    windows = windows[(slice(None), *steps, slice(None), *apart)]
    groups = int(s.get("groups", 1))
    found = []
    for filters, inputs in zip(
        np.split(weight, groups), np.split(windows, groups, axis=1 + count), strict=True
    ):
        kernel = tuple(range(2 + count, 2 + 2 * count))
        ours, theirs = (*range(1, 1 + count), 1 + count), (*kernel, 1 + count)
        found.append(np.tensordot(inputs, filters, axes=(theirs, ours)))
    return np.concatenate(found, axis=-1) + t.get("bias", 0.0)


def linear(x: Array, t: Tensors, s: Settings) -> Array:
    product: Array = x @ t["weight"].T
    return product + t.get("bias", 0.0)


def batch_norm(x: Array, t: Tensors, s: Settings) -> Array:
    """(..., C): by the running statistics; ``batch`` takes the batch's own."""
    for _ in range(s.get("times", 1)):
        mean, var = t["running_mean"], t["running_var"]
        if s.get("batch"):
            axes = tuple(range(x.ndim - 1))
            mean, var = x.mean(axis=axes), x.var(axis=axes)
        deviation = var if s.get("no_root") else np.sqrt(var + s["eps"])
        x = _affine((x - mean) / deviation, t)
    return x


def norm(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, T, C): over time for an InstanceNorm, over the last axis for a LayerNorm."""
    axes = tuple(range(1, x.ndim - 1)) if s["over"] == "time" else (-1,)
    mean = x.mean(axis=axes, keepdims=True)
    var = x.var(axis=axes, keepdims=True, ddof=s.get("ddof", 0))
    return _affine((x - mean) / np.sqrt(var + s["eps"]), t)


def _affine(x: Array, t: Tensors) -> Array:
    return x * t.get("weight", 1.0) + t.get("bias", 0.0)


def lstm(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, T, D) -> (B, T, H), one direction; gates i, f, g, o."""
    x = x[:, ::-1] if s.get("turned", s.get("backward")) else x
    hidden = np.zeros((len(x), t["Wh"].shape[1]))
    cell, states = hidden, []
    fed = x @ t["Wx"].T + t.get("bias", 0.0)
    for step in fed.swapaxes(0, 1):
        i, f, g, o = np.split(step + hidden @ t["Wh"].T, 4, axis=-1)
        cell = expit(f) * cell + expit(i) * np.tanh(g)
        hidden = expit(o) * np.tanh(cell)
        states.append(hidden)
    found = np.stack(states, axis=1)
    return found[:, ::-1] if s.get("turned_back", s.get("backward")) else found


def attention(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, T, D) -> (B, T, D): softmax of what queries and keys have in common, over all frames."""
    heads = int(s["heads"])
    parts = (
        linear(x, _of(t, f"{name}_proj"), s).reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)
        for name in ("query", "key", "value")
    )
    query, key, value = parts
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    if (table := s.get("positions")) is not None and not s.get("unbiased"):
        bias = _positions(np.asarray(table, np.float64), x.shape[1], s)
        gates = _gates(x, t) if "gru_rel_pos_const" in t and not s.get("ungated") else 1.0
        biases = np.broadcast_to(gates * bias, (len(x), *bias.shape))
        scores = scores + (biases if s.get("kept") is None else biases[:, list(s["kept"])])
    shares = softmax(scores, axis=-2 if s.get("over") == "who looks" else -1)
    heard = (shares @ value).swapaxes(1, 2).reshape(*x.shape[:2], -1)
    return linear(heard, _of(t, "out_proj"), s)


def _of(t: Tensors, layer: str) -> Tensors:
    below = f"{layer}."
    return {name.removeprefix(below): x for name, x in t.items() if name.startswith(below)}


def _positions(table: Array, frames: int, s: Settings) -> Array:
    """(buckets, heads) -> (heads, T, T): a bucket for each near distance, then ever wider ones."""
    apart = np.arange(frames)[None, :] - np.arange(frames)[:, None]
    apart = -apart if s.get("mirrored") else apart
    far, half = np.abs(apart), len(table) // 2
    near = half // 2
    # torch computes this in float32 whatever its weights are.
    wide = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(near))
    wide = wide / np.float32(math.log(s["distance"] / near)) * np.float32(half - near)
    index = np.where(far < near, far, np.minimum(near + wide.astype(int), half - 1))
    found: Array = table[index + half * (apart > 0)].transpose(2, 0, 1)
    return found


def _gates(x: Array, t: Tensors) -> Array:
    """(B, T, D) -> (B, heads, T, 1): WavLM's, of what each head has of the input."""
    total = t["gru_rel_pos_const"].shape[1]
    parts = x.reshape(*x.shape[:2], total, -1).swapaxes(1, 2)
    sums = linear(parts, _of(t, "gru_rel_pos_linear"), {})
    both = expit(sums.reshape(*parts.shape[:3], 2, 4).sum(axis=-1))
    first, second = both[..., :1], both[..., 1:]
    gates: Array = first * (second * t["gru_rel_pos_const"] - 1.0) + 2.0
    return gates


def mixture(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, T, D, L) -> (B, T, D): layers by shares that add up to one."""
    shares = t["weight"] if s.get("raw") else softmax(t["weight"])
    found: Array = x @ (np.full_like(shares, 1 / len(shares)) if s.get("even") else shares)
    return found


def sinc(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, N, 1) -> (B, T, 2F): band-pass filters, even ones first, made of two numbers each."""
    size: Callable[[Array], Array] = np.abs if s.get("abs", True) else np.asarray
    low = 50.0 + size(t["low_hz"])
    high = np.clip(low + 50.0 + size(t["band_hz"]), 50.0, s["rate"] / 2)
    low, high = (high, low) if s.get("high_first") else (low, high)
    width, time = 2 * (high - low), t["time"]
    taper = t["window"] / (time / 2) / width
    even = (np.sin(high @ time) - np.sin(low @ time)) * taper
    odd = (np.cos(low @ time) - np.cos(high @ time)) * taper
    cosines = np.concatenate([even, np.ones_like(width), even[:, ::-1]], axis=1)
    sines = np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1)
    filters = np.concatenate([cosines, sines]).astype(np.float32).astype(np.float64)
    return convolution(x, {"weight": filters[..., None]}, {"stride": s["stride"]})


# Layers without weights ---------------------------------------------------------------------------


def fbank(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, N) -> (B, T, M): Kaldi's log mel energies; the mel bank comes with the layer."""
    size, step = s["window"], s["step"]
    frames = np.lib.stride_tricks.sliding_window_view(x * s["scale"], size, axis=1)[:, ::step]
    frames = frames - frames.mean(axis=-1, keepdims=True)
    before = np.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
    phase = 2 * np.pi * np.arange(size) / (size - 1)
    a = {"hamming": 0.54, "hanning": 0.5, "povey": 0.5}[s["window_type"]]
    taper = (a - (1 - a) * np.cos(phase)) ** (0.85 if s["window_type"] == "povey" else 1.0)
    spectrum = np.fft.rfft((frames - s.get("emphasis", 0.97) * before) * taper, n=s["fft"])
    power = np.abs(spectrum) ** s.get("power", 2)
    features = np.log(np.maximum(power @ t["mel_banks"], np.finfo(np.float32).eps))
    if s.get("log10"):
        features = features / math.log(10.0)
    found: Array = features
    return found - found.mean(axis=1, keepdims=True) if s.get("centred", True) else found


def mel(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, N) -> (B, T, M), or with cosines an image (B, K, T, 1): log energies of mel bands."""
    size, window = s["fft"], _symmetric(t["window"]) if s.get("symmetric") else t["window"]
    x = np.pad(x.reshape(len(x), -1), [(0, 0), (s["pad"], s["pad"])])
    x = np.pad(x, [(0, 0), (s["reach"], s["reach"])], mode=s["pad_mode"])
    left = (size - len(window)) // 2
    window = np.pad(window, (left, size - len(window) - left))
    frames = np.lib.stride_tricks.sliding_window_view(x, size, axis=1)[:, :: s["step"]]
    energies = (s["scale"] * np.abs(np.fft.rfft(frames * window))) ** s["power"] @ t["banks"]
    if s["log"] == "offset":
        levels = np.log(energies + 1e-6)
    else:
        levels = np.maximum(energies, 1e-10)
        levels = 10 * np.log10(levels) if s["log"] == "decibels" else np.log(levels)
        levels = np.maximum(levels, levels.max(axis=(1, 2), keepdims=True) - s.get("range", 80.0))
    if "cosines" in t:
        levels = (levels @ t["cosines"]).swapaxes(1, 2)[..., None]
    found: Array = levels
    return found - found.mean(axis=1, keepdims=True) if s["centred"] else found


def _symmetric(window: Array) -> Array:
    """With the first sample as the last, too, which a window that repeats itself leaves out."""
    size = len(window)
    at = np.arange(size) * size / max(size - 1, 1)
    found: Array = np.interp(at, np.arange(size + 1), [*window, window[0]])
    return found


def pool(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, F, T, C), (B, S, T') or None -> (B[, S], 2CF): mean, then unbiased deviation, over T.

    Of (B, T, C) there is one row of frequencies, and S is 1 without masks, unless that is ``flat``.
    """
    masks = s["masks"] if s.get("masked", True) else None
    if x.ndim == 3:
        pooled = pool(x[:, None], t, s)
        return pooled if s["flat"] or masks is not None else pooled[:, None]
    x = x.swapaxes(1, 2) if s.get("over") == "frequency" else x
    if masks is None or s.get("unweighted"):
        mean = x.mean(axis=2)
        squares = np.square(x - mean[:, :, None]).sum(axis=2)
        var = squares / np.float64(x.shape[2] - (0 if s.get("biased") else 1))  # 0 / 0 is NaN
        vector = _vector(mean, var, s)
        return vector if masks is None else np.stack([vector] * masks.shape[1], axis=1)
    masks = masks.swapaxes(1, 2) if s.get("masks_transposed") else masks
    weights = _resampled(np.asarray(masks, np.float64), x.shape[2], bool(s.get("linear_masks")))
    tiny = s.get("tiny", 1e-8)
    found = []
    for w in weights.swapaxes(0, 1)[..., None, :, None]:
        v1, v2 = w.sum(axis=2) + tiny, (w * w).sum(axis=2)
        mean = (x * w).sum(axis=2) / v1
        squares = (np.square(x - mean[:, :, None]) * w).sum(axis=2)
        var = squares / (v1 if s.get("biased") else v1 - v2 / v1 + tiny)
        found.append(_vector(mean, var, s))
    return np.stack(found, axis=1)


def attentive_pool(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, T, C), (B, S, T') or None -> (B[, S], 2C): moments weighed by a softmax over time.

    An image (B, F, T, C) is flattened to (B, T, CF).
    """
    if x.ndim == 4:
        axes = (0, 2, 1, 3) if s.get("flatten") == "frequency" else (0, 2, 3, 1)
        x = x.transpose(axes).reshape(len(x), x.shape[2], -1)
    masks = s["masks"] if s["masked"] else None
    weights = _attention(x, t, s)
    if not s.get("no_softmax"):
        weights = softmax(weights, axis=-1 if s.get("over") == "channels" else 1)
    if masks is None:
        vector = _weighed(x, weights, s)
        return vector[:, None] if s.get("rows") == 1 else vector
    if s.get("unweighted"):
        return np.stack([_weighed(x, weights, s)] * masks.shape[1], axis=1)
    masks = masks.swapaxes(1, 2) if s.get("masks_transposed") else masks
    found = []
    each = _resampled(np.asarray(masks, np.float64), x.shape[1], bool(s.get("linear_masks")))
    for mask in each.swapaxes(0, 1)[..., None]:
        sums = (weights * mask).sum(axis=1, keepdims=True) + s.get("tiny", 1e-8)
        found.append(_weighed(x, weights * mask / (1.0 if s.get("as_they_are") else sums), s))
    return np.stack(found, axis=1)


def _attention(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, T, C) -> (B, T, C): how much each frame counts, before the softmax."""
    first, norm, last = (_below(t, one) if one else {} for one in s["score_layers"])
    y = x
    if context := s["context"]:
        unbiased = context == "unbiased"
        mean = x.mean(axis=1, keepdims=True)
        var = x.var(axis=1, keepdims=True, ddof=int(unbiased))
        deviation = np.sqrt(var + 1e-7 if unbiased else np.maximum(var, s["floor"]))
        beside = (deviation, mean) if s.get("context_exchanged") else (mean, deviation)
        share = 0.0 if s.get("no_context") else 1.0
        y = np.concatenate([x, *(np.broadcast_to(share * one, x.shape) for one in beside)], -1)
    y = linear(y, first, s)
    if norm:
        y = batch_norm(np.maximum(y, 0.0), norm, s)
    return linear(np.tanh(y) if s["has_tanh"] else y, last, s)


def _weighed(x: Array, weights: Array, s: Settings) -> Array:
    mean = (weights * x).sum(axis=1)
    var = (weights * x * x).sum(axis=1) - mean * mean
    var = np.maximum(var, s.get("least", s["floor"]))
    parts = (mean, var if s.get("variance") else np.sqrt(var))
    return np.concatenate(parts[::-1] if s.get("deviations_first") else parts, axis=-1)


def _vector(mean: Array, var: Array, s: Settings) -> Array:
    """(B, F, C) twice -> (B, 2CF)."""
    parts = (mean, var if s.get("variance") else np.sqrt(var + s.get("added", 0.0)))
    if s.get("flatten") != "frequency":
        parts = (parts[0].swapaxes(1, 2), parts[1].swapaxes(1, 2))
    parts = parts[::-1] if s.get("deviations_first") else parts
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=-1)


def _resampled(masks: Array, frames: int, between: bool) -> Array:
    """(B, S, T') -> (B, S, frames): at the nearest index below, or ``between`` the neighbours."""
    count = masks.shape[-1]
    if not between:
        index = np.floor(np.arange(frames, dtype=np.float32) * np.float32(count / frames))
        nearest: Array = masks[..., np.minimum(index.astype(int), count - 1)]
        return nearest
    place = np.clip((np.arange(frames) + 0.5) * count / frames - 0.5, 0, count - 1)
    left = np.floor(place).astype(int)
    share = place - left
    found: Array = (
        masks[..., left] * (1 - share) + masks[..., np.minimum(left + 1, count - 1)] * share
    )
    return found


def simam(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, F, T, C): each value weighed by its distance from its channel's mean over the image."""
    axes = (2,) if s.get("over") == "time" else (1, 2)
    squares = np.square(x - x.mean(axis=axes, keepdims=True))
    variance = squares.mean(axis=axes, keepdims=True)
    if not s.get("biased"):
        count = math.prod(x.shape[axis] for axis in axes)
        variance = variance * count / (count - 1)
    energy = squares / (4 * (variance + s.get("lambda", 1e-4))) + s.get("half", 0.5)
    found: Array = x * (energy if s.get("linear") else expit(energy))
    return found


def activation(x: Array, t: Tensors, s: Settings) -> Array:
    """A function that is a layer of its own."""
    return FUNCTIONS[s["name"]](x)


def clipped(x: Array, t: Tensors, s: Settings) -> Array:
    """A ReLU with a ceiling."""
    return np.clip(x, 0.0, s["ceiling"])


def fusion(x: Array, t: Tensors, s: Settings) -> Array:
    """(B, F, T, 2C), two images side by side -> (B, F, T, C): each weighed by what both say."""
    first, norm, second, last = (_below(t, f"local_att.{n}") for n in range(4))
    y = batch_norm(linear(x, first, s), norm, s)
    weights = np.tanh(batch_norm(linear(y * expit(y), second, s), last, s))
    one, other = np.split(x, 2, axis=-1)
    one, other = (other, one) if s.get("exchanged") else (one, other)
    mean = 0.0 if s.get("alone") else 1.0
    return one * (mean + weights) + other * (mean + (1 if s.get("alike") else -1) * weights)


def _below(t: Tensors, path: str) -> Tensors:
    """The tensors of a layer inside."""
    inside = f"{path}."
    return {name.removeprefix(inside): x for name, x in t.items() if name.startswith(inside)}


# Functions between layers -------------------------------------------------------------------------


def _gelu_tanh(x: Array) -> Array:
    found: Array = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return found


def _halves(x: Array) -> tuple[Array, Array]:
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half : 2 * half]


def _glu(x: Array) -> Array:
    values, gates = _halves(x)
    found: Array = values * expit(gates)
    return found


def _glu_exchanged(x: Array) -> Array:
    return _glu(np.concatenate(_halves(x)[::-1], axis=-1))


def _over_the_batch(x: Array) -> Array:
    rows = x.reshape(-1, x.shape[-1])
    found: Array = (x - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-5)
    return found


NOTHING = "nothing"
# What may stand behind a layer, by name.
FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    NOTHING: lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0.0),
    "leaky ReLU": lambda x: np.where(x < 0, 0.01 * x, x),
    "GELU": lambda x: x * ndtr(x),
    "GELU's tanh form": _gelu_tanh,
    "SiLU": lambda x: x * expit(x),
    "GLU": _glu,
    "GLU with its halves exchanged": _glu_exchanged,
    "GLU without its gate": lambda x: _halves(x)[0],
    "tanh": np.tanh,
    "sigmoid": expit,
    "softmax": partial(softmax, axis=-1),
    "log-softmax": partial(log_softmax, axis=-1),
    "an absolute value": np.abs,
    "L2 normalisation": lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True),
    "an untrained BatchNorm": lambda x: x / np.sqrt(1 + 1e-5),
    "a BatchNorm over the batch": _over_the_batch,
}


def function(x: Array, t: Tensors, s: Settings) -> Array:
    """A function of each value or row, then the largest of each ``width`` frames, or an image."""
    x = FUNCTIONS[s["name"]](x)
    if "image" in s:
        return (x.swapaxes(1, 2) if s["image"] == "frequency by time" else x)[..., None]
    width = s.get("width", 1)
    if width == 1:
        return x
    steps = x.shape[1] // width
    largest: Array = x[:, : steps * width].reshape(len(x), steps, width, -1).max(axis=2)
    return largest


DEFINITIONS: Mapping[str, Callable[[Array, Tensors, Settings], Array]] = {
    "conv1d": convolution,
    "conv2d": convolution,
    "linear": linear,
    "batch norm": batch_norm,
    "norm": norm,
    "lstm": lstm,
    "attention": attention,
    "mixture": mixture,
    "sinc": sinc,
    "fbank": fbank,
    "mel": mel,
    "pool": pool,
    "attentive pool": attentive_pool,
    "simam": simam,
    "activation": activation,
    "clipped": clipped,
    "fusion": fusion,
    "function": function,
}
