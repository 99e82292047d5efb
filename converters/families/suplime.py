"""SuplimeSegmentation of the package suplime: WavLM, Conformer, linear layers, a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters import wav2vec
from samevoice.converters.families.pyannet import linear_layers, sizes_of_linear, task
from samevoice.converters.layers import (
    BATCH_COUNTERS,
    affine,
    attention,
    batch_norm,
    conv1d,
    pointwise,
)
from samevoice.converters.rules import Drop, Rule, Table, Tensor, count_of, each, shape_of
from samevoice.errors import ConversionError
from samevoice.family import Family

LAYER = "conformer.conformer_layers"
HEADS = 4  # of SuplimeSegmentation's Conformer, where nothing else is said


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network wants them: sizes from the tensors, the rest as saved."""
    given = metadata.get("hyper_parameters", {})
    found = segmentation(tensors, metadata, "SuplimeSegmentation")
    return found | {"conformer": _conformer(tensors, given.get("conformer") or {}, found)}


def segmentation(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], architecture: str
) -> dict[str, Any]:
    """All but what stands between the wav2vec network and the linear layers."""
    given = metadata.get("hyper_parameters", {})
    assumed: list[str] = []
    classes = shape_of(tensors, "classifier.bias")[0]
    specifications, activation = task(metadata.get("specifications"), classes, assumed)
    normalised = any(name.startswith("wav2vec.model.") for name in tensors)
    said, layer = given.get("wav2vec"), -1
    if "wav2vec_weights" not in tensors:
        layer = given.get("wav2vec_layer")
        if type(layer) is not int:
            raise ConversionError(
                f"wav2vec_layer is {layer!r}, and there is no mixture of layers: convert the whole "
                "checkpoint, which says which layer is listened to"
            )
    inner = wav2vec.config(
        tensors,
        "wav2vec.model" if normalised else "wav2vec",
        said if isinstance(said, Mapping) else {},
        layer,
        assumed,
    )
    return {
        "model_type": "segmentation",
        "architecture": architecture,
        "sample_rate": given.get("sample_rate", 16000),
        "num_channels": given.get("num_channels", 1),
        "wav2vec": inner,
        "wav2vec_layer": layer,
        "normalize_waveform": normalised,
        "linear": sizes_of_linear(tensors),
        "num_classes": classes,
        "activation": activation,
        "specifications": specifications,
        "assumed": assumed,
    }


def _conformer(
    tensors: Mapping[str, Tensor], given: Mapping[str, Any], found: Mapping[str, Any]
) -> dict[str, Any]:
    heads, dims = given.get("num_heads"), found["wav2vec"]["encoder_embed_dim"]
    if heads is None:
        found["assumed"].append(f"conformer.num_heads {HEADS}: suplime's default")
        heads = HEADS
    if type(heads) is not int or heads < 1 or dims % heads:
        raise ConversionError(f"conformer.num_heads is {heads!r}, which does not divide {dims}")
    return {
        "num_heads": heads,
        "ffn_dim": shape_of(tensors, f"{LAYER}.0.ffn1.sequential.1.bias")[0],
        "num_layers": count_of(tensors, r"conformer\.conformer_layers\.(\d+)\."),
        "depthwise_conv_kernel_size": shape_of(
            tensors, f"{LAYER}.0.conv_module.sequential.2.weight"
        )[-1],
    }


def table(config: Mapping[str, Any]) -> Table:
    """The rules for a SuplimeSegmentation of these hyper-parameters."""
    layers = range(config["conformer"]["num_layers"])
    return (*front(config), *each(_layer(f"{LAYER}.{{n}}"), n=layers), *end(config))


def front(config: Mapping[str, Any]) -> Table:
    """The wav2vec network and the mixture of its layers."""
    inner = "wav2vec.model" if config["normalize_waveform"] else "wav2vec"
    mixture = Rule("wav2vec_weights", "mixture.weight", exact="few, and they weigh all layers")
    mixed = config["wav2vec_layer"] < 0
    return (*wav2vec.table(config["wav2vec"], inner, "wav2vec"), *((mixture,) if mixed else ()))


def end(config: Mapping[str, Any]) -> Table:
    return (
        *linear_layers(config["linear"]),
        *affine("classifier", "classifier"),
        BATCH_COUNTERS,
        Drop("loss_func.{path}", why="weights of the training loss; inference never reads it"),
    )


def _layer(at: str) -> Table:
    conv = f"{at}.conv_module"
    rules: Table = ()
    for name in ("ffn1", "ffn2"):
        for number, inner in ((0, "layer_norm"), (1, "linear1"), (4, "linear2")):
            rules += affine(f"{at}.{name}.sequential.{number}", f"{at}.{name}.{inner}")
    for name in ("self_attn_layer_norm", "final_layer_norm"):
        rules += affine(f"{at}.{name}", f"{at}.{name}")
    return (
        *rules,
        *attention(f"{at}.self_attn", f"{at}.self_attn"),
        *affine(f"{conv}.layer_norm", f"{conv}.layer_norm"),
        *pointwise(f"{conv}.sequential.0", f"{conv}.pointwise1"),
        *conv1d(f"{conv}.sequential.2", f"{conv}.depthwise"),
        *batch_norm(f"{conv}.sequential.3", f"{conv}.norm"),
        *pointwise(f"{conv}.sequential.5", f"{conv}.pointwise2"),
    )


FAMILY = Family(
    role="segmentation",
    architectures=("SuplimeSegmentation",),
    anchors=("classifier.weight", "conformer.conformer_layers.0.self_attn.in_proj_weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.suplime:SuplimeSegmentation",
    original="samevoice.parity.originals.suplime:build",
    reference="samevoice.parity.originals.suplime:reference",
)
