"""The rules of one torch layer each, from which the tables of whole models are put together.

A name given here is the module's path on either side, without the trailing dot.
"""

from __future__ import annotations

from samevoice.converters.rules import Drop, Rule, Table, each
from samevoice.converters.transforms import (
    ADD_BIASES,
    GRU_BIASES,
    IOHW_TO_OHWI,
    IOK_TO_OKI,
    OI1_TO_OI,
    OI11_TO_OI,
    OIHW_TO_OHWI,
    OIK_TO_OKI,
    SPLIT_QKV,
    WEIGHT_NORM,
    Transform,
)


def affine(source: str, target: str) -> Table:
    """Linear, LayerNorm, InstanceNorm: weight and bias as they are."""
    return (
        Rule(f"{source}.weight", f"{target}.weight"),
        Rule(f"{source}.bias", f"{target}.bias"),
    )


def embedding(source: str, target: str) -> Table:
    return (Rule(f"{source}.weight", f"{target}.weight"),)


def conv1d(source: str, target: str, *, bias: bool = True) -> Table:
    return _conv(source, target, OIK_TO_OKI, bias)


def conv2d(source: str, target: str, *, bias: bool = True) -> Table:
    return _conv(source, target, OIHW_TO_OHWI, bias)


def pointwise(source: str, target: str, *, dims: int = 1, bias: bool = True) -> Table:
    """A convolution of one tap, along ``dims`` axes -> a linear layer, which is what it is."""
    return _conv(source, target, OI1_TO_OI if dims == 1 else OI11_TO_OI, bias)


def conv_transpose1d(source: str, target: str, *, bias: bool = True) -> Table:
    return _conv(source, target, IOK_TO_OKI, bias)


def conv_transpose2d(source: str, target: str, *, bias: bool = True) -> Table:
    return _conv(source, target, IOHW_TO_OHWI, bias)


def _conv(source: str, target: str, layout: Transform, bias: bool) -> Table:
    weight = Rule(f"{source}.weight", f"{target}.weight", layout)
    return (weight, Rule(f"{source}.bias", f"{target}.bias")) if bias else (weight,)


def weight_norm(source: str, target: str, parts: tuple[str, ...]) -> Table:
    """A Conv1d with a norm and a direction for a weight, by these names; without, the weight."""
    if not parts:
        return conv1d(source, target)
    return (
        Rule(tuple(f"{source}.{part}" for part in parts), f"{target}.weight", WEIGHT_NORM),
        Rule(f"{source}.bias", f"{target}.bias"),
    )


def batch_norm(source: str, target: str, *, affine: bool = True) -> Table:
    """Scale, shift and both running statistics: without those the layer normalises by 0 and 1."""
    learnt = ("weight", "bias") if affine else ()
    return tuple(
        Rule(f"{source}.{name}", f"{target}.{name}")
        for name in (*learnt, "running_mean", "running_var")
    )


BATCH_COUNTERS = Drop(
    "{path}.num_batches_tracked", why="counts training steps; inference never reads it"
)


def lstm(source: str, target: str, *, layer: int = 0, reverse: bool = False) -> Table:
    """One direction of one layer of torch's LSTM -> an MLX LSTM."""
    end = f"_l{layer}" + ("_reverse" if reverse else "")
    return (
        Rule(f"{source}.weight_ih{end}", f"{target}.Wx"),
        Rule(f"{source}.weight_hh{end}", f"{target}.Wh"),
        Rule((f"{source}.bias_ih{end}", f"{source}.bias_hh{end}"), f"{target}.bias", ADD_BIASES),
    )


def gru(source: str, target: str, *, layer: int = 0, reverse: bool = False) -> Table:
    """One direction of one layer of torch's GRU -> an MLX GRU."""
    end = f"_l{layer}" + ("_reverse" if reverse else "")
    biases = (f"{source}.bias_ih{end}", f"{source}.bias_hh{end}")
    return (
        Rule(f"{source}.weight_ih{end}", f"{target}.Wx"),
        Rule(f"{source}.weight_hh{end}", f"{target}.Wh"),
        Rule(biases, (f"{target}.b", f"{target}.bhn"), GRU_BIASES),
    )


def attention(
    source: str, target: str, *, packed: bool = True, bias: bool = True, out: str = "out_proj"
) -> Table:
    """torch's MultiheadAttention, or one with q_proj, k_proj, v_proj -> MLX's MultiHeadAttention.

    ``packed`` is torch's own form, one in_proj for all three. ``out`` is what the MLX side calls
    the last projection: ``out_proj`` in MLX's layer, ``output_proj`` in some ports.
    """
    ends = ("weight", "bias") if bias else ("weight",)
    inner = tuple(f"{target}.{name}_proj" for name in ("query", "key", "value"))
    table: Table = tuple(Rule(f"{source}.out_proj.{end}", f"{target}.{out}.{end}") for end in ends)
    for end in ends:
        targets = tuple(f"{name}.{end}" for name in inner)
        if packed:
            table += (Rule(f"{source}.in_proj_{end}", targets, SPLIT_QKV),)
        else:
            table += tuple(
                Rule(f"{source}.{short}_proj.{end}", name)
                for short, name in zip("qkv", targets, strict=True)
            )
    return table


_HERTZ = "cut-off frequencies in Hz: rounded to 16 bits they move by whole hertz"
_FILTER = "enters the filters beside the frequencies, whose sines magnify any rounding"


def sincnet(source: str, target: str) -> Table:
    """pyannote's SincNet: the numbers that its filters are made of, convolutions and norms."""
    first, made = f"{source}.conv1d.0.filterbank", f"{target}.conv.0"
    return (
        *affine(f"{source}.wav_norm1d", f"{target}.wav_norm"),
        Rule(f"{first}.low_hz_", f"{made}.low_hz", exact=_HERTZ),
        Rule(f"{first}.band_hz_", f"{made}.band_hz", exact=_HERTZ),
        Rule(f"{first}.window_", f"{made}.window", exact=_FILTER),
        Rule(f"{first}.n_", f"{made}.time", exact=_FILTER),
        *each(conv1d(f"{source}.conv1d.{{i}}", f"{target}.conv.{{i}}"), i=(1, 2)),
        *each(affine(f"{source}.norm1d.{{i}}", f"{target}.norm.{{i}}"), i=range(3)),
    )
