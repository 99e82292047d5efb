"""SimAM-ResNets with attentive pooling: suplime's, and WeSpeaker's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.families import wespeaker
from samevoice.converters.layers import (
    BATCH_COUNTERS,
    affine,
    batch_norm,
    conv2d,
    pointwise,
)
from samevoice.converters.rules import Table, Tensor, count_of, each, shape_of
from samevoice.errors import ConversionError
from samevoice.family import Family

SUPLIME = "WeSpeakerSimAMResNet34"
# Blocks in each of the four stages.
BLOCKS = {
    SUPLIME: [3, 4, 6, 3],
    "SimAM_ResNet34_ASP": [3, 4, 6, 3],
    "SimAM_ResNet100_ASP": [6, 16, 24, 3],
}
STAGES = (1, 2, 3, 4)


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes from the tensors; the filterbank as saved, or as WeSpeaker's recipes have it."""
    given = metadata.get("hyper_parameters")
    channels = shape_of(tensors, "resnet.front.conv1.weight")[0]
    hidden, features, *_ = shape_of(tensors, "resnet.pooling.attention.0.weight")
    fbank = {**wespeaker.FBANK, "num_mel_bins": features // channels}
    return {
        "model_type": "embedding",
        "architecture": _architecture(tensors, metadata.get("architecture")),
        **{name: (given or {}).get(name, default) for name, default in fbank.items()},
        "in_planes": channels,
        "hidden": hidden,
        "layers": _depths(tensors),
        "embed_dim": shape_of(tensors, "resnet.bottleneck.weight")[0],
        "assumed": [] if given else ["fbank as WeSpeaker computes it: 25/10 ms, Hamming"],
    }


def table(config: Mapping[str, Any]) -> Table:
    """The names are the authors', but for the shortcuts, and for the pooling's ReLU that counts."""
    front, pooling = "resnet.front", "resnet.pooling.attention"
    rules: Table = (
        *conv2d(f"{front}.conv1", f"{front}.conv1", bias=False),
        *batch_norm(f"{front}.bn1", f"{front}.bn1"),
    )
    for stage, blocks in zip(STAGES, config["layers"], strict=True):
        block = f"{front}.layer{stage}.{{n}}"
        for number in (1, 2):
            conv, norm = f"{block}.conv{number}", f"{block}.bn{number}"
            layer = (*conv2d(conv, conv, bias=False), *batch_norm(norm, norm))
            rules += each(layer, n=range(blocks))
        if stage > 1:
            first = f"{front}.layer{stage}.0"
            rules += conv2d(f"{first}.downsample.0", f"{first}.shortcut.0", bias=False)
            rules += batch_norm(f"{first}.downsample.1", f"{first}.shortcut.1")
    return (
        *rules,
        *pointwise(f"{pooling}.0", f"{pooling}.0"),
        *batch_norm(f"{pooling}.2", f"{pooling}.1"),
        *pointwise(f"{pooling}.3", f"{pooling}.2"),
        *affine("resnet.bottleneck", "resnet.bottleneck"),
        BATCH_COUNTERS,
        *wespeaker.HEADS,
    )


def _depths(tensors: Mapping[str, Tensor]) -> list[int]:
    return [count_of(tensors, rf"resnet\.front\.layer{stage}\.(\d+)\.") for stage in STAGES]


def _architecture(tensors: Mapping[str, Tensor], named: str | None) -> str:
    """As it is saved; a bare state dict is WeSpeaker's own."""
    found = _depths(tensors)
    for name, depths in BLOCKS.items():
        if depths == found and (named == name if named else name != SUPLIME):
            return name
    raise ConversionError(
        f"a SimAM-ResNet{f' called {named}' if named else ''} with {found} blocks is not "
        f"supported; supported: {', '.join(BLOCKS)}"
    )


FAMILY = Family(
    role="embedding",
    architectures=tuple(BLOCKS),
    anchors=("front.layer1.0.conv1.weight", "pooling.attention.0.weight", "bottleneck.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.samresnet:SimAMResNet",
    original="samevoice.parity.originals.samresnet:build",
    reference="samevoice.parity.originals.samresnet:reference",
    prefix=wespeaker.PREFIX,
    methods={"SimAM": "gate"},
)
