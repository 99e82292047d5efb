"""WavLM, wav2vec 2.0 and HuBERT as torchaudio writes them: their part of a config and of a table.

Sizes are read from the tensors. What no tensor shows is taken from what was saved with them, or
else assumed to be as in all models that were published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import affine, attention, conv1d, weight_norm
from samevoice.converters.rules import (
    Drop,
    Rule,
    Table,
    Tensor,
    count_of,
    missing,
    shape_of,
)
from samevoice.errors import ConversionError

LAYER = "encoder.transformer.layers"
POSITIONAL = "encoder.transformer.pos_conv_embed.conv"
_HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16}  # of each width that was published


def config(
    tensors: Mapping[str, Tensor], at: str, given: Mapping[str, Any], layer: int, assumed: list[str]
) -> dict[str, Any]:
    """Of the network whose tensors stand below ``at``; with a ``layer`` of the first ones alone."""
    encoder = f"{at}.encoder.transformer"
    layers = count_of(tensors, re.escape(f"{at}.{LAYER}.") + r"(\d+)\.")
    if layer >= 0 and not 1 <= layer <= layers:
        raise ConversionError(f"wav2vec_layer is {layer}, but there are {layers} layers")
    dims = shape_of(tensors, f"{at}.encoder.feature_projection.projection.weight")[0]
    conv = f"{at}.feature_extractor.conv_layers"
    each_norm = f"{conv}.1.layer_norm.weight" in tensors
    mode = "layer_norm" if each_norm else "group_norm"
    groups, kernel = _positional(tensors, f"{at}.{POSITIONAL}", dims)
    found = {
        "extractor_mode": mode,
        "extractor_conv_layer_config": _convolutions(tensors, conv, given, assumed),
        "extractor_conv_bias": f"{conv}.0.conv.bias" in tensors,
        "encoder_embed_dim": dims,
        "encoder_pos_conv_kernel": kernel,
        "encoder_pos_conv_groups": groups,
        "encoder_num_layers": layers if layer < 0 else layer,
        "source_num_layers": layers,
        "encoder_ff_interm_features": _inner(tensors, f"{encoder}.layers", layers),
        "packed": f"{encoder}.layers.0.attention.attention.in_proj_weight" in tensors,
        "encoder_layer_norm_first": _said(
            given, "encoder_layer_norm_first", each_norm, assumed, "as its extractor's norms go"
        ),
        "weight_norm": _weight_norm(tensors, f"{at}.{POSITIONAL}"),
    }
    return found | _heads(tensors, f"{encoder}.layers", dims, given, assumed)


def _said(given: Mapping[str, Any], name: str, otherwise: Any, assumed: list[str], why: str) -> Any:
    if name in given:
        return given[name]
    assumed.append(f"{name} {otherwise}: {why}")
    return otherwise


def _convolutions(
    tensors: Mapping[str, Tensor], conv: str, given: Mapping[str, Any], assumed: list[str]
) -> list[list[int]]:
    """Channels and kernels as the tensors are, strides as given."""
    count = count_of(tensors, re.escape(conv) + r"\.(\d+)\.")
    said = given.get("extractor_conv_layer_config")
    if said is None and "extractor_conv_layer_config" not in given:
        assumed.append("strides 5, 2, 2, ... of the convolutions in front, as in all published")
    strides = [one[2] for one in said] if said else [5, *[2] * (count - 1)]
    if len(strides) != count:
        raise ConversionError(
            f"there are {count} convolutions in front, but strides of {len(strides)}"
        )
    shapes = [shape_of(tensors, f"{conv}.{n}.conv.weight") for n in range(count)]
    return [[shape[0], shape[-1], n] for shape, n in zip(shapes, strides, strict=True)]


def _inner(tensors: Mapping[str, Tensor], layers: str, count: int) -> int | list[int]:
    """Of all layers, or of each where pruning left some other widths, or none."""
    names = [f"{layers}.{n}.feed_forward.intermediate_dense.weight" for n in range(count)]
    found = [shape_of(tensors, name)[0] if name in tensors else 0 for name in names]
    if not any(found):
        raise missing(names[0] if names else f"{layers}.0.layer_norm.weight")
    return found[0] if len(set(found)) == 1 else found


def _heads(
    tensors: Mapping[str, Tensor],
    layers: str,
    dims: int,
    given: Mapping[str, Any],
    assumed: list[str],
) -> dict[str, Any]:
    embed = f"{layers}.0.attention.rel_attn_embed.weight"
    if embed not in tensors:
        why = "no tensor shows it"
        heads = _said(given, "encoder_num_heads", _HEADS.get(dims, 0), assumed, why)
        if type(heads) is not int or heads < 1 or dims % heads:
            raise ConversionError(
                f"encoder_num_heads is {heads!r}, which {dims} does not divide by"
            )
        return {"encoder_num_heads": heads}
    buckets, heads = shape_of(tensors, embed)
    why = "WavLM's own, the tensors do not show it"
    distance = _said(given, "encoder_max_distance", 800, assumed, why)
    return {
        "encoder_num_heads": heads,
        "encoder_num_buckets": buckets,
        "encoder_max_distance": distance,
    }


# A weight's norm and direction, as torch names them now, as it did before, and as one.
_NAMES = {
    "parametrizations": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    "g and v": ("weight_g", "weight_v"),
    "": (),
}


def _weight_norm(tensors: Mapping[str, Tensor], at: str) -> str:
    fits = (form for form, names in _NAMES.items() if all(f"{at}.{n}" in tensors for n in names))
    return next(fits)


def _positional(tensors: Mapping[str, Tensor], at: str, dims: int) -> tuple[int, int]:
    """Groups and kernel."""
    names = _NAMES[_weight_norm(tensors, at)]
    shape = shape_of(tensors, f"{at}.{names[1] if names else 'weight'}")
    if len(shape) != 3 or not shape[1] or dims % shape[1]:
        raise ConversionError(f"wrong shape: the positional convolution is {list(shape)}")
    return dims // shape[1], shape[2]


def table(config: Mapping[str, Any], source: str, target: str) -> Table:
    """The rules for a network of this config, between two paths."""
    front = "feature_extractor.conv_layers"
    projection = "encoder.feature_projection"
    rules: Table = ()
    for number in range(len(config["extractor_conv_layer_config"])):
        at = f"{front}.{number}"
        rules += conv1d(f"{at}.conv", f"{at}.conv", bias=config["extractor_conv_bias"])
        if number == 0 or config["extractor_mode"] == "layer_norm":
            rules += affine(f"{at}.layer_norm", f"{at}.layer_norm")
    for name in ("layer_norm", "projection"):
        rules += affine(f"{projection}.{name}", f"{projection}.{name}")
    rules += weight_norm(POSITIONAL, POSITIONAL, _NAMES[config["weight_norm"]])
    drops = [Drop(f"{source}.aux.{{path}}", why="spells letters; nobody who hears voices reads it")]
    norm = "encoder.transformer.layer_norm"
    if config["encoder_layer_norm_first"]:
        why = "stands behind the last layer, where nobody takes features"
        drops += [Drop(f"{source}.{norm}.{{path}}", why=why)]
    else:
        rules += affine(norm, norm)
    for number in range(config["encoder_num_layers"]):
        rules += layer(config, f"{LAYER}.{number}", number)
    for number in range(config["encoder_num_layers"], config["source_num_layers"]):
        why = "lies behind the layer that is listened to"
        drops += [Drop(f"{source}.{LAYER}.{number}.{{path}}", why=why)]
    moved = tuple(_below(rule, source, target) for rule in rules if isinstance(rule, Rule))
    return (*moved, *drops)


def layer(config: Mapping[str, Any], at: str, number: int) -> Table:
    """One layer of the encoder."""
    rules = attended(config, f"{at}.attention", number)
    for name in ("layer_norm", "final_layer_norm"):
        rules += affine(f"{at}.{name}", f"{at}.{name}")
    width = config["encoder_ff_interm_features"]
    if width if isinstance(width, int) else width[number]:
        for name in ("intermediate_dense", "output_dense"):
            rules += affine(f"{at}.feed_forward.{name}", f"{at}.feed_forward.{name}")
    return rules


def attended(config: Mapping[str, Any], inner: str, number: int) -> Table:
    """Its attention, where pruning left any."""
    kept = config.get("encoder_remaining_heads")
    if kept is not None and not kept[number]:
        return ()
    gated, packed = "encoder_num_buckets" in config, config["packed"]
    rules: Table = ()
    if gated:
        gates = f"{inner}.gru_rel_pos"
        rules += affine(f"{gates}_linear", f"{gates}_linear")
        rules += (Rule(f"{gates}_const", f"{gates}_const"),)
        if number == 0:
            embed = f"{inner}.rel_attn_embed.weight"
            rules += (Rule(embed, embed),)
    return rules + attention(f"{inner}.attention" if packed else inner, inner, packed=packed)


def _below(rule: Rule, source: str, target: str) -> Rule:
    sources = tuple(f"{source}.{name}" for name in rule.sources)
    targets = tuple(f"{target}.{name}" for name in rule.targets)
    return Rule(sources, targets, rule.transform, exact=rule.exact, **dict(rule.over))
