"""WeSpeaker's ResNets, the speaker embedding networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import BATCH_COUNTERS, affine, batch_norm, conv2d
from samevoice.converters.rules import Drop, Identity, Table, Tensor, count_of, each, shape_of
from samevoice.errors import ConversionError
from samevoice.family import Family

PREFIX = "resnet."  # pyannote's name for the network; WeSpeaker's own checkpoints go without

# Blocks in each of the four stages, and convolutions in each block.
BLOCKS = {
    "WeSpeakerResNet34": ((3, 4, 6, 3), 2),
    "WeSpeakerResNet152": ((3, 8, 36, 3), 3),
    "WeSpeakerResNet221": ((6, 16, 48, 3), 3),
    "WeSpeakerResNet293": ((10, 20, 64, 3), 3),
}

_HEAD = "classifies the training speakers; the embedding comes before it"
# What training leaves beside a network of WeSpeaker's.
HEADS = (
    *(Drop(f"{at}projection.{{path}}", why=_HEAD) for at in ("", PREFIX)),
    Drop("loss_func.{path}", why="weights of the training loss; inference never reads it"),
)

# pyannote saves these with the checkpoint; a bare state dict means the values that it was
# trained with, which are these defaults of pyannote's and WeSpeaker's.
FBANK = {
    "sample_rate": 16000,
    "num_mel_bins": 80,
    "frame_length": 25.0,
    "frame_shift": 10.0,
    "round_to_power_of_two": True,
    "snip_edges": True,
    "dither": 0.0,
    "window_type": "hamming",
    "use_energy": False,
    "fbank_centering_span": None,
}


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network wants them: sizes from the tensors, fbank as saved."""
    given = metadata.get("hyper_parameters")
    fbank = {name: (given or {}).get(name, default) for name, default in FBANK.items()}
    assumed = [] if given else ["fbank as pyannote computes it: 80 mel bins, 25/10 ms, Hamming"]
    return {
        "model_type": "embedding",
        "architecture": _architecture(tensors, metadata.get("architecture")),
        **fbank,
        "m_channels": shape_of(tensors, "resnet.conv1.weight")[0],
        "embed_dim": shape_of(tensors, "resnet.seg_1.weight")[0],
        "two_emb_layer": False,
        "assumed": assumed,
    }


def table(config: Mapping[str, Any]) -> Table:
    """The rules for a ResNet of this depth."""
    stages, convolutions = BLOCKS[config["architecture"]]
    rules: Table = (
        *conv2d("resnet.conv1", "resnet.conv1", bias=False),
        *batch_norm("resnet.bn1", "resnet.bn1"),
        *affine("resnet.seg_1", "resnet.seg_1"),
    )
    for stage, blocks in enumerate(stages, start=1):
        block = f"resnet.layer{stage}.{{n}}"
        for number in range(1, convolutions + 1):
            conv, norm = f"{block}.conv{number}", f"{block}.bn{number}"
            layer = (*conv2d(conv, conv, bias=False), *batch_norm(norm, norm))
            rules += each(layer, n=range(blocks))
        if stage > 1 or convolutions == 3:  # wherever the shape changes
            first = f"resnet.layer{stage}.0.shortcut"
            rules += conv2d(f"{first}.0", f"{first}.0", bias=False)
            rules += batch_norm(f"{first}.1", f"{first}.1")
    return (
        *rules,
        BATCH_COUNTERS,
        *HEADS,
        Identity("resnet.seg_bn_1", why="one embedding layer: pyannote puts nn.Identity here"),
        Identity("resnet.seg_2", why="one embedding layer: pyannote puts nn.Identity here"),
    )


def _architecture(tensors: Mapping[str, Tensor], named: str | None) -> str:
    """The class's name from the blocks that are there, checked against the one that is saved."""
    stages = tuple(count_of(tensors, rf"resnet\.layer{n}\.(\d+)\.") for n in (1, 2, 3, 4))
    convolutions = 3 if "resnet.layer1.0.conv3.weight" in tensors else 2
    for name, shape in BLOCKS.items():
        if shape == (stages, convolutions) and named in (None, name):
            return name
    raise ConversionError(
        f"a ResNet{f' called {named}' if named else ''} with {stages} blocks of {convolutions} "
        f"convolutions is not supported; supported: {', '.join(BLOCKS)}"
    )


FAMILY = Family(
    role="embedding",
    architectures=tuple(BLOCKS),
    anchors=(
        *("layer1.0.conv1.weight", "layer4.0.conv1.weight"),
        *("layer1.0.conv2.weight", "seg_1.weight"),
    ),
    config=config,
    table=table,
    network="samevoice.models.networks.wespeaker:WeSpeakerResNet",
    original="samevoice.parity.originals.wespeaker:build",
    prefix=PREFIX,
)
