"""torch's own layers: how each is built in MLX, how it is called, and the rule of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils import parametrize

from samevoice.port.orders import Order, last, last_stays, one_or_all
from samevoice.port.text import Number, Text

nn = torch.nn
RECURRENT = ("LSTM", "GRU", "RNN")
ATTENTION = "MultiheadAttention"


@dataclass(frozen=True)
class Layer:
    """``name`` in samevoice.models.nn, what it is built with, and the order of its input's axes.

    ``rules`` name the function of converters.layers that has its table, and what that is told.
    """

    name: str
    arguments: Callable[[Any], list[tuple[str, Any, Any]]]  # name, value, what it usually is
    order: Callable[[Order], Order]
    rule: str
    told: Callable[[Any], dict[str, Any]] = field(default=lambda module: {})
    fixed: int = 0  # how many of the arguments have no name


def _conv(dims: int, turned: bool = False) -> Layer:
    def arguments(module: Any) -> list[tuple[str, Any, Any]]:
        found = [
            ("in_channels", module.in_channels, None),
            ("out_channels", module.out_channels, None),
            ("kernel_size", one_or_all(module.kernel_size, dims), None),
            ("stride", one_or_all(module.stride, dims), 1),
            ("padding", _padding(module.padding, dims), 0),
        ]
        if turned:
            found.append(("output_padding", one_or_all(module.output_padding, dims), 0))
        found += [
            ("dilation", one_or_all(module.dilation, dims), 1),
            ("groups", module.groups, 1),
            ("bias", module.bias is not None, True),
        ]
        mode = getattr(module, "padding_mode", "zeros")
        return found if turned else [*found, ("padding_mode", mode, "zeros")]

    name = f"Conv{'Transpose' if turned else ''}{dims}d"
    rule = f"conv_transpose{dims}d" if turned else f"conv{dims}d"
    return Layer(name, arguments, _channels_last, rule, _has_bias, fixed=3)


def _padding(given: Any, dims: int) -> Any:
    return 0 if given == "valid" else one_or_all(given, dims)


def _has_bias(module: Any) -> dict[str, Any]:
    return {} if module.bias is not None else {"bias": False}


def _channel_norm(module: Any) -> list[tuple[str, Any, Any]]:
    return [
        ("channels", module.num_features, None),
        ("affine", module.affine, True),
        ("eps", module.eps, 1e-5),
    ]


def _layer_norm(module: Any) -> list[tuple[str, Any, Any]]:
    shape = module.normalized_shape
    return [
        ("channels", shape[0] if len(shape) == 1 else tuple(shape), None),
        ("affine", module.elementwise_affine, True),
        ("bias", module.elementwise_affine and module.bias is not None, module.elementwise_affine),
        ("eps", module.eps, 1e-5),
    ]


def _group_norm(module: Any) -> list[tuple[str, Any, Any]]:
    return [
        ("groups", module.num_groups, None),
        ("channels", module.num_channels, None),
        ("affine", module.affine, True),
        ("eps", module.eps, 1e-5),
    ]


def _linear(module: Any) -> list[tuple[str, Any, Any]]:
    return [
        ("inputs", module.in_features, None),
        ("outputs", module.out_features, None),
        ("bias", module.bias is not None, True),
    ]


def _embedding(module: Any) -> list[tuple[str, Any, Any]]:
    return [("count", module.num_embeddings, None), ("size", module.embedding_dim, None)]


def _recurrent(module: Any) -> list[tuple[str, Any, Any]]:
    return [
        ("input_size", module.input_size, None),
        ("hidden_size", module.hidden_size, None),
        ("num_layers", module.num_layers, 1),
        ("bidirectional", module.bidirectional, False),
    ]


def _simple(module: Any) -> list[tuple[str, Any, Any]]:
    return [*_recurrent(module), ("nonlinearity", module.nonlinearity, "tanh")]


def _attention(module: Any) -> list[tuple[str, Any, Any]]:
    return [
        ("embed_dim", module.embed_dim, None),
        ("num_heads", module.num_heads, None),
        ("bias", module.in_proj_bias is not None, True),
    ]


def _channels_last(order: Order) -> Order:
    return last(len(order))


_BATCH_NORM = Layer(
    "BatchNorm",
    _channel_norm,
    _channels_last,
    "batch_norm",
    lambda module: {} if module.affine else {"affine": False},
    fixed=1,
)
_INSTANCE_NORM = Layer("InstanceNorm", _channel_norm, _channels_last, "affine", fixed=1)
_LAYERS: dict[type[nn.Module], Layer] = {
    nn.Conv1d: _conv(1),
    nn.Conv2d: _conv(2),
    nn.ConvTranspose1d: _conv(1, turned=True),
    nn.ConvTranspose2d: _conv(2, turned=True),
    nn.Linear: Layer("Linear", _linear, last_stays, "affine", _has_bias, fixed=2),
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.LayerNorm: Layer("LayerNorm", _layer_norm, last_stays, "affine", _has_bias, fixed=1),
    nn.GroupNorm: Layer("GroupNorm", _group_norm, _channels_last, "affine", fixed=2),
    nn.InstanceNorm1d: _INSTANCE_NORM,
    nn.InstanceNorm2d: _INSTANCE_NORM,
    nn.Embedding: Layer("Embedding", _embedding, lambda order: order, "embedding", fixed=2),
    nn.MultiheadAttention: Layer(
        "MultiheadAttention",
        _attention,
        lambda order: order,
        "attention",
        lambda module: {} if module.in_proj_bias is not None else {"bias": False},
        fixed=2,
    ),
    nn.LSTM: Layer("LSTM", _recurrent, lambda order: order, "lstm", fixed=2),
    nn.GRU: Layer("GRU", _recurrent, lambda order: order, "gru", fixed=2),
    nn.RNN: Layer("RNN", _simple, lambda order: order, "lstm", fixed=2),
}


def layer_of(module: torch.nn.Module) -> Layer | None:
    """The layer of torch that a module is, whatever its own class is called."""
    for kind, layer in _LAYERS.items():
        if isinstance(module, kind) and type(module).forward is kind.forward and _is_usual(module):
            return layer
    return None


def _is_usual(module: Any) -> bool:
    """What is built otherwise than its class says is written operation by operation."""
    if parametrize.is_parametrized(module) or {"weight_g", "weight_orig"} & set(module._parameters):
        return False
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.running_mean is not None
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return not module.track_running_stats
    if isinstance(module, nn.MultiheadAttention):
        alike = module._qkv_same_embed_dim and not module.add_zero_attn
        return alike and module.bias_k is None
    if isinstance(module, nn.LSTM):
        return module.proj_size == 0 and module.bias
    if isinstance(module, nn.GRU | nn.RNN):
        return bool(module.bias)
    if isinstance(module, nn.modules.conv._ConvNd):
        turned = isinstance(module, nn.modules.conv._ConvTransposeNd)
        return module.padding_mode == "zeros" or not turned
    return True


def built(module: torch.nn.Module) -> Text:
    """How it is built: nn.Conv1d(80, 512, 5, padding=2)."""
    layer = layer_of(module)
    assert layer is not None
    pieces: list[Any] = [f"nn.{layer.name}("]
    for n, (name, value, usual) in enumerate(layer.arguments(module)):
        if n < layer.fixed:
            pieces += [", "] if n else []
            pieces.append(Number(value, name))
        else:
            pieces.append(Number(value, name, name, usual))
    return Text((*pieces, ")"))
