"""DiariZen: a WavLM that may be pruned, the sum of its layers, a Conformer, a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import conformer as cpu_conformer
from samevoice.models.layers import BatchNorm, Kept, LayerNorm, Module, glu, silu, wavlm
from samevoice.models.layers.attention import Attention, on_host
from samevoice.models.layers.conformer import Depthwise
from samevoice.models.layers.geometry import Window
from samevoice.models.network import Network, as_batch
from samevoice.models.networks.pyannet import activation_of


class PositionwiseFeedForward(Module):
    """(B, T, D) -> (B, T, D), half of it added to what came in."""

    def __init__(self, dims: int, inner: int) -> None:
        super().__init__()
        self.ln_norm, self.w_1, self.w_2 = LayerNorm(dims), Linear(dims, inner), Linear(inner, dims)

    def __call__(self, x: mx.array) -> mx.array:
        return x + 0.5 * self.w_2(silu(self.w_1(self.ln_norm(x))))


class ConformerMHA(Module):
    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.ln_norm, self.mha = LayerNorm(dims), Attention(dims, heads)

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.mha(self.ln_norm(x))


class ConvolutionModule(Module):
    def __init__(self, dims: int, kernel: int) -> None:
        super().__init__()
        self.ln_norm, self.pointwise_conv1 = LayerNorm(dims), Linear(dims, 2 * dims)
        self.depthwise_conv, self.bn_norm = Depthwise(dims, kernel), BatchNorm(dims)
        self.pointwise_conv2 = Linear(dims, dims)

    def __call__(self, x: mx.array) -> mx.array:
        y = self.depthwise_conv(glu(self.pointwise_conv1(self.ln_norm(x))))
        return x + self.pointwise_conv2(silu(self.bn_norm(y)))


class ConformerBlock(Module):
    def __init__(self, dims: int, inner: int, heads: int, kernel: int) -> None:
        super().__init__()
        self.ffn1, self.mha = PositionwiseFeedForward(dims, inner), ConformerMHA(dims, heads)
        self.conv = ConvolutionModule(dims, kernel)
        self.ffn2, self.ln_norm = PositionwiseFeedForward(dims, inner), LayerNorm(dims)
        self._host: Kept[cpu_conformer.Layer | None] = Kept()

    def __call__(self, x: mx.array) -> mx.array:
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            return mx.array(host(on_host(x)))
        normed: mx.array = self.ln_norm(self.ffn2(self.conv(self.mha(self.ffn1(x)))))
        return normed

    def _on_cpu(self) -> cpu_conformer.Layer | None:
        return self._host.of(self.arrays, lambda: cpu_conformer.of(*self._parts()))

    def _parts(self) -> tuple[Any, ...]:
        first, second = ((one.ln_norm, one.w_1, one.w_2) for one in (self.ffn1, self.ffn2))
        conv = self.conv
        ends = conv.pointwise_conv1, conv.pointwise_conv2
        between = (conv.ln_norm, ends[0], conv.depthwise_conv, conv.bn_norm, ends[1])
        return first, (self.mha.ln_norm, self.mha.mha), between, second, self.ln_norm


class ConformerEncoder(Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        names = ("attention_in", "ffn_hidden", "num_head", "kernel_size")
        sizes = [int(config[name]) for name in names]
        self.conformer_layer = [ConformerBlock(*sizes) for _ in range(int(config["num_layer"]))]

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.conformer_layer:
            x = layer(x)
        return x


class DiariZen(Network):
    """(B, 1, N) or (B, N) -> (B, T, classes)."""

    at_once = 1  # as of any network on WavLM

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.activation = activation_of(config)
        said, dims = config["wavlm"], int(config["attention_in"])
        self.wavlm_model = wavlm.Wav2Vec2(said)
        self.normalize_waveform = bool(said["normalize_waveform"])
        self.weight_sum = wavlm.LayerSum(int(said["encoder_num_layers"]) + 1)
        self.proj, self.lnorm = Linear(int(said["encoder_embed_dim"]), dims), LayerNorm(dims)
        self.conformer = ConformerEncoder(config)
        self.classifier = Linear(dims, int(config["num_classes"]))

    def __call__(self, waveforms: mx.array | np.ndarray) -> mx.array:
        x = as_batch(mx.array(waveforms))
        if self.normalize_waveform:
            x = wavlm.normalised(x, axis=-1)
        # What goes into the first layer counts as well.
        x = self.weight_sum.of(self.wavlm_model(x))
        x = self.conformer(self.lnorm(self.proj(x)))
        return self.activation(self.classifier(x).astype(mx.float32))

    @property
    def windows(self) -> tuple[Window, ...]:
        return self.wavlm_model.windows
