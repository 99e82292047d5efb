"""ECAPA-TDNN as WeSpeaker has it: ``wespeaker.models.ecapa_tdnn``, with and without context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.families import wespeaker
from samevoice.converters.families.ecapa import dilations_of
from samevoice.converters.layers import BATCH_COUNTERS, affine, batch_norm, conv1d, pointwise
from samevoice.converters.rules import Drop, Table, Tensor, shape_of
from samevoice.family import Family

LAYERS = (2, 3, 4)


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters by the names that speechbrain's have, all from the shapes."""
    del metadata
    channels, mels, first = shape_of(tensors, "layer1.conv.weight")
    width, _, kernel = shape_of(tensors, "layer2.se_res2block.1.convs.0.weight")
    last = shape_of(tensors, "conv.weight")[0]
    attention, heard, _ = shape_of(tensors, "pool.linear1.weight")
    return {
        "model_type": "embedding",
        "architecture": "WeSpeakerECAPA",
        **wespeaker.FBANK,
        "num_mel_bins": mels,
        "channels": [channels] * 4 + [last],
        "kernel_sizes": [first, *[kernel] * len(LAYERS), 1],
        "dilations": dilations_of(2 + len(LAYERS)),
        "attention_channels": attention,
        "res2net_scale": channels // width,
        "se_channels": shape_of(tensors, "layer2.se_res2block.3.linear1.weight")[0],
        "global_context": heard == 3 * last,
        "lin_neurons": shape_of(tensors, "linear.weight")[0],
        "emb_bn": "bn2.weight" in tensors,
        "assumed": ["fbank as WeSpeaker computes it: 25/10 ms, Hamming, 16-bit samples"],
    }


def table(config: Mapping[str, Any]) -> Table:
    """WeSpeaker's names -> speechbrain's."""
    rules = _block("layer1", "blocks.0", config["kernel_sizes"][0])
    for number, kernel in zip(LAYERS, config["kernel_sizes"][1:], strict=False):
        at, block = f"layer{number}.se_res2block", f"blocks.{number - 1}"
        rules += (*_block(f"{at}.0", f"{block}.tdnn1"), *_block(f"{at}.2", f"{block}.tdnn2"))
        for n in range(config["res2net_scale"] - 1):
            part = f"{block}.res2net_block.blocks.{n}"
            rules += _conv(f"{at}.1.convs.{n}", f"{part}.conv", kernel)
            rules += batch_norm(f"{at}.1.bns.{n}", f"{part}.norm")
        rules += affine(f"{at}.3.linear1", f"{block}.se_block.conv1")
        rules += affine(f"{at}.3.linear2", f"{block}.se_block.conv2")
    return (
        *rules,
        *_conv("conv", "mfa.conv"),
        *_conv("pool.linear1", "asp.linear1"),
        *_conv("pool.linear2", "asp.linear2"),
        *batch_norm("bn", "asp_bn"),
        *affine("linear", "fc"),
        *(batch_norm("bn2", "bn2") if config["emb_bn"] else ()),
        BATCH_COUNTERS,
        Drop("projection.{path}", why="names the speakers of the training set"),
    )


def _block(source: str, target: str, kernel: int = 1) -> Table:
    conv = _conv(f"{source}.conv", f"{target}.conv", kernel)
    return (*conv, *batch_norm(f"{source}.bn", f"{target}.norm"))


def _conv(source: str, target: str, kernel: int = 1) -> Table:
    return (pointwise if kernel == 1 else conv1d)(source, target)


FAMILY = Family(
    role="embedding",
    architectures=("WeSpeakerECAPA",),
    anchors=("layer1.conv.weight", "layer2.se_res2block.1.convs.0.weight", "pool.linear1.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.ecapa:WeSpeakerECAPA",
    original="samevoice.parity.originals.wespeaker_ecapa:build",
    reference="samevoice.parity.originals.wespeaker_ecapa:reference",
)
