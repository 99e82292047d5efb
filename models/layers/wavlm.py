"""WavLM, wav2vec 2.0 and HuBERT as torchaudio writes them: waveforms to the frames of each layer.

Modules have the names that they have there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import convolutions, cpu, transformer
from samevoice.models.layers import (
    EPSILON,
    InstanceNorm,
    Kept,
    LayerNorm,
    Module,
    as_float64,
    gelu,
    taps,
)
from samevoice.models.layers.attention import Attention, GatedAttention, PositionEmbedding, on_host
from samevoice.models.layers.geometry import Window

NORMS = ("group_norm", "layer_norm")


class Conv(Module):
    """In one group without padding, in several without strides: (B, T, I) -> (B, T', O)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False,
        padding: int = 0, groups: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        if inputs % groups or outputs % groups:
            raise ValueError(f"{groups} groups divide neither {inputs} nor {outputs} channels")
        self.weight = mx.zeros((outputs, kernel, inputs // groups))
        if bias:
            self.bias = mx.zeros((outputs,))
        self.stride, self.padding, self.groups = stride, padding, groups

    def __call__(self, x: mx.array) -> mx.array:
        if fast.on_cpu():
            y = mx.array(self._on_cpu(on_host(x), on_host(self.weight)), dtype=x.dtype)
        else:
            weight = self.weight.astype(x.dtype)
            y = mx.conv1d(x, weight, self.stride, self.padding, groups=self.groups)
        return y + self.bias if "bias" in self else y

    def _on_cpu(self, x: cpu.Floats, weight: cpu.Floats) -> cpu.Floats:
        if self.groups > 1:
            return convolutions.grouped(x, weight, self.padding, self.groups)
        return convolutions.conv1d(x, weight, self.stride)


class ConvLayerBlock(Module):
    """(B, T, I) -> (B, T', O): convolution, a norm where there is one, GELU."""

    def __init__(self, sizes: tuple[int, int, int, int], bias: bool, norm: str) -> None:
        super().__init__()
        inputs, outputs, kernel, stride = sizes
        self.conv = Conv(inputs, outputs, kernel, stride, bias)
        if norm:  # of groups, each channel is one
            made = InstanceNorm(outputs) if norm == "group_norm" else LayerNorm(outputs)
            self.layer_norm: Module | LayerNorm = made

    def __call__(self, x: mx.array) -> mx.array:
        x = self.conv(x)
        if "layer_norm" in self:
            x = self.layer_norm(x)
        return gelu(x)


class FeatureExtractor(Module):
    """(B, N) -> (B, T, C). ``layers`` holds channels, kernel and stride of each.

    Pruning may leave a ``scaled`` one: a factor for each channel.
    """

    def __init__(
        self, layers: Sequence[Sequence[int]], bias: bool, mode: str, scaled: bool = False
    ) -> None:
        super().__init__()
        if mode not in NORMS:
            raise ValueError(f"extractor_mode {mode!r}: one of {', '.join(NORMS)}")
        inputs, self.conv_layers = 1, []
        for number, (outputs, kernel, stride) in enumerate(layers):
            norm = "" if mode == "group_norm" and number else mode
            self.conv_layers += [ConvLayerBlock((inputs, outputs, kernel, stride), bias, norm)]
            inputs = outputs
        if scaled:
            self.dummy_weight = mx.ones((inputs,))
        self._host: Kept[convolutions.Front] = Kept()

    def __call__(self, waveforms: mx.array) -> mx.array:
        if fast.whole_on_cpu():
            front = self._host.of(self.arrays, self._on_cpu)
            x = mx.array(front(on_host(waveforms)), dtype=self.conv_layers[0].conv.weight.dtype)
        else:
            # Levels of a waveform differ by 60 dB: behind the first layer float16 suffices.
            x = waveforms[:, :, None].astype(mx.float32)
            for layer in self.conv_layers:
                x = layer(x).astype(layer.conv.weight.dtype)
        return x * self.dummy_weight if "dummy_weight" in self else x

    def _on_cpu(self) -> convolutions.Front:
        over_time = isinstance(self.conv_layers[0].get("layer_norm"), InstanceNorm)
        layers = [
            convolutions.FrontLayer(
                convolutions.Filters.of(on_host(one.conv.weight), one.conv.stride),
                on_host(one.conv.bias) if "bias" in one.conv else None,
                None if over_time else _affine(one),
                EPSILON,
            )
            for one in self.conv_layers
        ]
        return convolutions.Front(layers, _affine(self.conv_layers[0]) if over_time else None)


def _affine(block: ConvLayerBlock) -> tuple[cpu.Floats, cpu.Floats] | None:
    """Scale and shift of its norm, where it has one."""
    norm = block.get("layer_norm")
    return None if norm is None else (on_host(norm.weight), on_host(norm.bias))


class FeatureProjection(Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer_norm, self.projection = LayerNorm(inputs), Linear(inputs, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return self.projection(self.layer_norm(x))


class PositionalConv(Module):
    """Where a frame stands, told from those around it: (B, T, D) -> (B, T, D)."""

    def __init__(self, dims: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = Conv(dims, dims, kernel, 1, True, kernel // 2, groups)

    def __call__(self, x: mx.array) -> mx.array:
        # An even kernel gives a frame too many.
        return gelu(self.conv(x)[:, : x.shape[1]])


class FeedForward(Module):
    def __init__(self, dims: int, inner: int) -> None:
        super().__init__()
        self.intermediate_dense, self.output_dense = Linear(dims, inner), Linear(inner, dims)

    def __call__(self, x: mx.array) -> mx.array:
        return self.output_dense(gelu(self.intermediate_dense(x)))


class EncoderLayer(Module):
    """(B, T, D) -> (B, T, D); with ``first`` norms stand before what they norm.

    Pruning may leave a layer without attention, or without what is fed forward.
    """

    def __init__(self, dims: int, attention: Attention | None, inner: int, first: bool) -> None:
        super().__init__()
        if attention is not None:
            self.attention = attention
        self.layer_norm = LayerNorm(dims)
        if inner:
            self.feed_forward = FeedForward(dims, inner)
        self.final_layer_norm = LayerNorm(dims)
        self.first = first
        self._host: Kept[transformer.Layer | None] = Kept()

    def __call__(self, x: mx.array, bias: mx.array | None) -> mx.array:
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            around = None if bias is None else on_host(bias)
            return mx.array(host(on_host(x), around, cpu.shared()))
        if "attention" in self:
            x = x + self.attention(self.layer_norm(x) if self.first else x, bias)
        if self.first:
            return x + self.feed_forward(self.final_layer_norm(x)) if "feed_forward" in self else x
        x = self.layer_norm(x)
        fed = x + self.feed_forward(x) if "feed_forward" in self else x
        normed: mx.array = self.final_layer_norm(fed)
        return normed

    def _on_cpu(self) -> transformer.Layer | None:
        return self._host.of(self.arrays, lambda: transformer.of(self, transformer.gelu))


class Transformer(Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        dims = int(config["encoder_embed_dim"])
        self.pos_conv_embed = PositionalConv(
            dims, int(config["encoder_pos_conv_kernel"]), int(config["encoder_pos_conv_groups"])
        )
        self.first = bool(config["encoder_layer_norm_first"])
        # Where layers have their norms in front, torchaudio takes features without this one.
        if not self.first:
            self.layer_norm = LayerNorm(dims)
        self.layers = [self._layer(config, n) for n in range(int(config["encoder_num_layers"]))]
        gated = [
            one
            for layer in self.layers
            if isinstance(one := layer.get("attention"), GatedAttention)
        ]
        for first in (one for one in gated[:1] if "rel_attn_embed" in one):
            for one in gated:
                one.share(first)

    def _layer(self, config: Mapping[str, Any], number: int) -> EncoderLayer:
        dims, inner = int(config["encoder_embed_dim"]), config["encoder_ff_interm_features"]
        inner = int(inner if isinstance(inner, int) else inner[number])
        return EncoderLayer(dims, attention_of(config, number), inner, self.first)

    def __call__(self, x: mx.array) -> Iterator[mx.array]:
        """(B, T, D) -> what goes into the first layer, then what each layer gives."""
        x = x + self.pos_conv_embed(x)
        if "layer_norm" in self:
            x = self.layer_norm(x)
        yield x
        bias: mx.array | None = None
        for layer in self.layers:
            attention = layer.get("attention")
            if bias is None and isinstance(attention, GatedAttention):
                bias = attention.positions(x.shape[1])
            x = layer(x, bias)
            yield x


def attention_of(config: Mapping[str, Any], number: int) -> Attention | None:
    """Of one layer: gated where there are positions; of the ``encoder_remaining_heads`` alone."""
    dims, heads = int(config["encoder_embed_dim"]), int(config["encoder_num_heads"])
    if "encoder_num_buckets" not in config:
        return Attention(dims, heads)
    buckets, distance = int(config["encoder_num_buckets"]), int(config["encoder_max_distance"])
    kept = config.get("encoder_remaining_heads")
    if kept is not None and not kept[number]:
        return None
    # Of buckets, half are for frames behind, and half of those stand for one distance each.
    if buckets < 4 or distance <= buckets // 4:
        raise ValueError(f"{buckets} buckets for distances up to {distance}")
    positions = PositionEmbedding(buckets, heads, distance) if number == 0 else None
    return GatedAttention(dims, heads, kept and kept[number], positions)


class Encoder(Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        inputs = int(config["extractor_conv_layer_config"][-1][0])
        self.feature_projection = FeatureProjection(inputs, int(config["encoder_embed_dim"]))
        self.transformer = Transformer(config)


class Wav2Vec2(Module):
    """Waveforms (B, N) -> (B, T, D) before and behind each layer.

    The config's keys are the arguments of torchaudio's ``wavlm_model`` and ``wav2vec2_model``;
    ``encoder_num_buckets`` tells the first from the second.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        layers = config["extractor_conv_layer_config"]
        self.feature_extractor = FeatureExtractor(
            layers,
            bool(config["extractor_conv_bias"]),
            config["extractor_mode"],
            bool(config.get("scaled")),
        )
        self.encoder = Encoder(config)
        self.windows = tuple(Window(int(kernel), int(stride)) for _, kernel, stride in layers)

    def __call__(self, waveforms: mx.array) -> Iterator[mx.array]:
        x = self.feature_extractor(waveforms)
        return self.encoder.transformer(self.encoder.feature_projection(x))


class LayerSum(Module):
    """The layers' sum, by learnt weights: (B, T, D, L) -> (B, T, D, 1)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = mx.zeros((1, layers))

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.weight.T.astype(x.dtype)

    def of(self, layers: Iterator[mx.array]) -> mx.array:
        """(B, T, D) of each, one after the other, none of which is kept unless somebody looks."""
        if taps.active():
            return self(mx.stack(list(layers), axis=-1))[..., 0]
        return summed(self.weight[0], layers)


class Mixture(Module):
    """The layers' sum, by learnt weights that add up to one: (B, T, D, L) -> (B, T, D)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = mx.ones((layers,))

    def __call__(self, x: mx.array) -> mx.array:
        mixed: mx.array = x @ self.shares.astype(x.dtype)
        return mixed

    @property
    def shares(self) -> mx.array:
        # In float64: what is rounded off here is off in all that follows.
        weights = np.exp(as_float64(self.weight - self.weight.max()))
        return mx.array(weights / weights.sum(), dtype=mx.float32)

    def of(self, layers: Iterator[mx.array]) -> mx.array:
        """The same of one layer after the other, none of which is kept unless somebody looks."""
        if taps.active():
            return self(mx.stack(list(layers), axis=-1))
        return summed(self.shares, layers)


def summed(shares: mx.array, layers: Iterator[mx.array]) -> mx.array:
    total: mx.array | None = None
    for share, x in zip(shares, layers, strict=True):
        part = x * share.astype(x.dtype)
        total = part if total is None else total + part
    assert total is not None
    return total


def normalised(x: mx.array, axis: int | None = None) -> mx.array:
    """Mean 0 and (biased) variance 1 over all that is given, or over an axis."""
    # In float64: what a long sum loses would be off in all that follows.
    wide = as_float64(x)
    wide -= wide.mean(axis=axis, keepdims=True)
    variance = np.square(wide).mean(axis=axis, keepdims=True)
    return mx.array(wide / np.sqrt(variance + EPSILON), dtype=mx.float32)
