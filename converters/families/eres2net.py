"""ERes2Net, a speaker embedding network: WeSpeaker's, and 3D-Speaker's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.families import campplus, wespeaker
from samevoice.converters.layers import BATCH_COUNTERS, affine, batch_norm, conv2d, pointwise
from samevoice.converters.rules import Table, Tensor, count_of, each, shape_of
from samevoice.errors import ConversionError
from samevoice.family import Family

STAGES = (1, 2, 3, 4)
FUSED = (3, 4)
OWN = "ERes2Net"  # 3D-Speaker's name for its one class
ARCHITECTURES = ("ERes2Net34_Base", "ERes2Net34_Large", "ERes2Net34_aug", OWN)
ADDED = {True: 1e-8, False: 1e-7}  # to the variance: 3D-Speaker's, and WeSpeaker's


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network and the authors' class want them, from the shapes."""
    del metadata
    channels = shape_of(tensors, "conv1.weight")[0]
    width = shape_of(tensors, "layer1.0.convs.0.weight")[0]
    outputs = shape_of(tensors, "layer1.0.conv3.weight")[0]
    embed_dim, features = shape_of(tensors, "seg_1.weight")
    own = "layer3.0.conv2_1.weight" not in tensors
    sizes = {
        "m_channels": channels,
        "expansion": outputs // channels,
        "base_width": 64 * width // channels,
        "scale": count_of(tensors, r"layer1\.0\.convs\.(\d+)\."),
        "layers": [count_of(tensors, rf"layer{stage}\.(\d+)\.") for stage in STAGES],
        "embed_dim": embed_dim,
        "two_emb_layer": "seg_2.weight" in tensors,
        "pool_added": ADDED[own],
        **_pool(tensors),
    }
    of_3d_speaker = {**campplus.FBANK, "num_mel_bins": 80}
    mels = features // 2 // outputs
    return {
        "model_type": "embedding",
        "architecture": OWN if own else _architecture(sizes),
        **(of_3d_speaker if own else wespeaker.FBANK),
        "num_mel_bins": mels,
        **sizes,
        "assumed": [
            f"fbank as {'3D-Speaker' if own else 'WeSpeaker'} computes it: 25/10 ms",
            *([] if sizes["pool_hidden"] else ["pooling: mean and deviation (TSTP)"]),
        ],
    }


def _pool(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Statistics have no tensors; attention has two layers, and maybe context beside its input."""
    held = {name.split(".")[1] for name in tensors if name.startswith("pool.")}
    if held not in (set(), {"linear1", "linear2"}):
        raise ConversionError("the pooling of this ERes2Net is neither TSTP nor ASTP")
    if "pool.linear1.weight" not in tensors:
        return {"pool_hidden": 0, "pool_context": False}
    hidden, given, *_ = shape_of(tensors, "pool.linear1.weight")
    taken = shape_of(tensors, "pool.linear2.weight")[0]
    return {"pool_hidden": hidden, "pool_context": given != taken}


def _architecture(sizes: Mapping[str, Any]) -> str:
    """WeSpeaker's factories differ in the blocks, then in width."""
    if sizes["scale"] > 2:
        return "ERes2Net34_aug"
    return "ERes2Net34_Large" if sizes["m_channels"] > 32 else "ERes2Net34_Base"


def table(config: Mapping[str, Any]) -> Table:
    """The authors' names, but for WeSpeaker's first convolution of a part, which has its own."""
    own = config["architecture"] == OWN
    rules: Table = (*_conv("conv1"), *_norm("bn1"))
    for stage, blocks in zip(STAGES, config["layers"], strict=True):
        block = f"layer{stage}.{{n}}"
        inner = (*_conv(f"{block}.conv1"), *_norm(f"{block}.bn1"))
        inner += (*_conv(f"{block}.conv3"), *_norm(f"{block}.bn3"))
        for part in range(config["scale"]):
            conv, norm = f"{block}.convs.{part}", f"{block}.bns.{part}"
            if own or stage not in FUSED:
                theirs = (conv, norm)
            elif part == 0:
                theirs = (f"{block}.conv2_1", f"{block}.bn2_1")
            else:
                theirs = (f"{block}.convs.{part - 1}", f"{block}.bns.{part - 1}")
            inner += (*conv2d(theirs[0], conv, bias=False), *batch_norm(theirs[1], norm))
            if stage in FUSED and part:
                inner += _aff(f"{block}.fuse_models.{part - 1}")
        rules += each(inner, n=range(blocks))
        first = f"layer{stage}.0.shortcut"
        if stage > 1 or config["expansion"] > 1:
            rules += (*_conv(f"{first}.0"), *_norm(f"{first}.1"))
        if stage > 1:
            rules += _conv(f"layer{stage - 1}_downsample")
            rules += _aff("fuse_mode" + "".join(map(str, range(1, stage + 1))))
    return (*rules, *_pooling(config), *_heads(config), BATCH_COUNTERS, *wespeaker.HEADS)


def _pooling(config: Mapping[str, Any]) -> Table:
    layers = ("pool.linear1", "pool.linear2") if config["pool_hidden"] else ()
    return tuple(rule for name in layers for rule in pointwise(name, name))


def _heads(config: Mapping[str, Any]) -> Table:
    first = affine("seg_1", "seg_1")
    if not config["two_emb_layer"]:
        return first
    second = (*batch_norm("seg_bn_1", "seg_bn_1", affine=False), *affine("seg_2", "seg_2"))
    return (*first, *second)


def _aff(at: str) -> Table:
    """A SiLU counts as a layer on the authors' side."""
    theirs, ours = f"{at}.local_att", f"{at}.local_att"
    return (
        *pointwise(f"{theirs}.0", f"{ours}.0", dims=2),
        *batch_norm(f"{theirs}.1", f"{ours}.1"),
        *pointwise(f"{theirs}.3", f"{ours}.2", dims=2),
        *batch_norm(f"{theirs}.4", f"{ours}.3"),
    )


def _conv(name: str) -> Table:
    return conv2d(name, name, bias=False)


def _norm(name: str) -> Table:
    return batch_norm(name, name)


FAMILY = Family(
    role="embedding",
    architectures=ARCHITECTURES,
    anchors=("layer1.0.convs.0.weight", "fuse_mode1234.local_att.0.weight", "seg_1.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.eres2net:ERes2Net",
    original="samevoice.parity.originals.eres2net:build",
    reference="samevoice.parity.originals.eres2net:reference",
)
