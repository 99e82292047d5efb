"""DiariZen of BUT: a WavLM that may be pruned, a Conformer, and a powerset of speakers."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

from samevoice.converters import wav2vec
from samevoice.converters.families.pyannet import specifications
from samevoice.converters.layers import (
    BATCH_COUNTERS,
    affine,
    batch_norm,
    conv1d,
    pointwise,
)
from samevoice.converters.rules import Rule, Table, Tensor, count_of, each, shape_of
from samevoice.errors import ConversionError
from samevoice.family import Family

BLOCK = "conformer.conformer_layer"
LAYERS = f"wavlm_model.{wav2vec.LAYER}"
# Which heads pruning left says no tensor, only how many: these are the published prunings', base
# and large, of 80 %.
PRUNED: tuple[tuple[tuple[int, ...], ...], ...] = (
    (
        *((1, 6), (5, 7, 8), (0, 3, 9), (0, 1, 4, 8, 11), (6, 8), (0,), (7, 8, 10, 11)),
        *((0, 1, 4, 8), (), (), (4, 7), (5,)),
    ),
    (
        *((1, 2, 4, 5, 6), (9, 10, 14), (0, 1, 2, 4, 5, 7), (1, 4, 7, 12, 13, 14)),
        *((0, 2, 3, 4, 13), (1, 7, 13, 14, 15), (11, 13, 15), (2, 3, 4, 8, 15), (2, 5, 6, 15)),
        *((), (0, 1), (1, 3, 5, 12), (), (4, 7, 11), (6, 9), (11,), (), (), (14,), (5, 15)),
        *((0, 2, 8, 11, 13, 15), (0, 1, 3, 4, 5, 6, 7, 10, 13)),
        *((0, 1, 3, 6, 7, 9, 10, 11, 12, 14), (1, 2, 3, 4, 7, 13, 14, 15)),
    ),
)
HEADS, AT_ONCE, SECONDS = 4, 2, 8.0


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """All from the shapes: DiariZen saves nothing beside the weights."""
    given = metadata.get("hyper_parameters", {})
    assumed = [
        f"conformer with {HEADS} heads, chunks of {SECONDS:g} s: DiariZen's own recipes",
    ]
    if "conformer.pos_emb.pe_k.weight" in tensors:
        raise ConversionError(
            "the Conformer has relative positions (use_posi), which no published DiariZen has: "
            "such a checkpoint is not converted"
        )
    inner = wav2vec.config(tensors, "wavlm_model", given.get("wavlm", {}), -1, assumed)
    classes = shape_of(tensors, "classifier.bias")[0]
    return {
        "model_type": "segmentation",
        "architecture": "DiariZen",
        "sample_rate": 16000,
        "num_channels": 1,
        "wavlm": {
            **inner,
            "encoder_remaining_heads": given.get("remaining_heads") or _kept(tensors, inner),
            "scaled": "wavlm_model.feature_extractor.dummy_weight" in tensors,
            "normalize_waveform": inner["extractor_mode"] == "layer_norm",
        },
        "attention_in": shape_of(tensors, "proj.weight")[0],
        "ffn_hidden": shape_of(tensors, f"{BLOCK}.0.ffn1.w_1.weight")[0],
        "num_head": HEADS,
        "num_layer": count_of(tensors, r"conformer\.conformer_layer\.(\d+)\."),
        "kernel_size": shape_of(tensors, f"{BLOCK}.0.conv.depthwise_conv.weight")[-1],
        "num_classes": classes,
        "activation": "log_softmax",
        "specifications": _powerset(classes, assumed),
        "assumed": assumed,
    }


def _kept(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> list[list[int]]:
    """The heads of each layer that are left."""
    total, count = config["encoder_num_heads"], config["encoder_num_layers"]
    width = config["encoder_embed_dim"] // total
    names = [f"{LAYERS}.{n}.attention.q_proj.weight" for n in range(count)]
    left = [shape_of(tensors, name)[0] // width if name in tensors else 0 for name in names]
    if all(number in (0, total) for number in left):
        return [list(range(number)) for number in left]
    known = [heads for heads in PRUNED if [len(one) for one in heads] == left]
    if not known:
        raise ConversionError(
            f"pruning left {', '.join(map(str, left))} heads of {total}, and no tensor says which: "
            "save them as hyper_parameters['remaining_heads'] beside the state_dict, a list a layer"
        )
    return [list(one) for one in known[0]]


def _powerset(classes: int, assumed: list[str]) -> dict[str, Any]:
    """Of as many speakers as give so many classes, at most two at a time."""
    speakers = next((n for n in range(1, 20) if 1 + n + comb(n, AT_ONCE) == classes), None)
    if speakers is None:
        raise ConversionError(f"{classes} classes are no powerset of at most {AT_ONCE} speakers")
    assumed.append(
        f"{classes} powerset classes of {speakers} speakers, at most {AT_ONCE} at a time"
    )
    names = [f"speaker#{n + 1}" for n in range(speakers)]
    said = specifications("MONO_LABEL_CLASSIFICATION", names, AT_ONCE)
    return {**said, "duration": SECONDS}


def table(config: Mapping[str, Any]) -> Table:
    front = "wavlm_model"
    scale = f"{front}.feature_extractor.dummy_weight"
    return (
        *wav2vec.table(config["wavlm"], front, front),
        *((Rule(scale, scale),) if config["wavlm"]["scaled"] else ()),
        Rule("weight_sum.weight", "weight_sum.weight", exact="few, and they weigh all layers"),
        *affine("proj", "proj"),
        *affine("lnorm", "lnorm"),
        *each(_block(f"{BLOCK}.{{n}}"), n=range(config["num_layer"])),
        *affine("classifier", "classifier"),
        BATCH_COUNTERS,
    )


def _block(at: str) -> Table:
    rules: Table = affine(f"{at}.ln_norm", f"{at}.ln_norm")
    for name in ("ffn1", "ffn2"):
        for inner in ("ln_norm", "w_1", "w_2"):
            rules += affine(f"{at}.{name}.{inner}", f"{at}.{name}.{inner}")
    projections = {"Q": "query_proj", "K": "key_proj", "V": "value_proj", "O": "out_proj"}
    for letter, projection in projections.items():
        rules += affine(f"{at}.mha.mha.linear{letter}", f"{at}.mha.mha.{projection}")
    conv = f"{at}.conv"
    for number in (1, 2):
        name = f"{conv}.pointwise_conv{number}"
        rules += pointwise(name, name)
    return (
        *rules,
        *affine(f"{at}.mha.ln_norm", f"{at}.mha.ln_norm"),
        *affine(f"{conv}.ln_norm", f"{conv}.ln_norm"),
        *conv1d(f"{conv}.depthwise_conv", f"{conv}.depthwise_conv"),
        *batch_norm(f"{conv}.bn_norm", f"{conv}.bn_norm"),
    )


FAMILY = Family(
    role="segmentation",
    architectures=("DiariZen",),
    anchors=(
        "weight_sum.weight",
        "wavlm_model.encoder.feature_projection.projection.weight",
        "conformer.conformer_layer.0.mha.mha.linearQ.weight",
    ),
    config=config,
    table=table,
    network="samevoice.models.networks.diarizen:DiariZen",
    original="samevoice.parity.originals.diarizen:build",
    reference="samevoice.parity.originals.diarizen:reference",
)
