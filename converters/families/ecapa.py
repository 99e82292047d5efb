"""ECAPA-TDNN as speechbrain has it: ``speechbrain.lobes.models.ECAPA_TDNN``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import BATCH_COUNTERS, batch_norm, conv1d, pointwise
from samevoice.converters.rules import Table, Tensor, count_of, shape_of
from samevoice.errors import ConversionError
from samevoice.family import Family

FIRST, LAST, POOL = "blocks.0.conv.conv", "mfa.conv.conv", "asp.tdnn.conv.conv"
# No checkpoint says what its dilations are, nor what it was trained to hear: these are those of
# speechbrain's class and of its spkrec-ecapa-voxceleb.
FEATURES = {"sample_rate": 16000, "n_fft": 400, "win_length": 25, "hop_length": 10}


def dilations_of(layers: int) -> list[int]:
    """1, 2, 3 and so on, but of the last layer 1."""
    return [*range(1, layers), 1]


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network and the authors' class want them, from the shapes."""
    del metadata
    layers = 2 + count_of(tensors, r"blocks\.(\d+)\.tdnn1\.")
    middle = [f"blocks.{n}" for n in range(1, layers - 1)]
    parts = [f"{block}.res2net_block.blocks.0.conv.conv" for block in middle]
    width, _, _ = shape_of(tensors, f"{parts[0]}.weight")
    channels, mels, _ = shape_of(tensors, f"{FIRST}.weight")
    outputs = [shape_of(tensors, f"{block}.tdnn2.conv.conv.weight")[0] for block in middle]
    last, summed, _ = shape_of(tensors, f"{LAST}.weight")
    if summed != sum(outputs):
        raise ConversionError(
            f"{LAST}.weight takes {summed} channels of {sum(outputs)}: convolutions in groups "
            "are not supported"
        )
    attention, heard, _ = shape_of(tensors, f"{POOL}.weight")
    return {
        "model_type": "embedding",
        "architecture": "SpeechBrainECAPA",
        **FEATURES,
        "num_mel_bins": mels,
        "channels": [channels, *outputs, last],
        "kernel_sizes": [shape_of(tensors, f"{name}.weight")[2] for name in (FIRST, *parts, LAST)],
        "dilations": dilations_of(layers),
        "attention_channels": attention,
        "res2net_scale": outputs[0] // width,
        "se_channels": shape_of(tensors, f"{middle[0]}.se_block.conv1.conv.weight")[0],
        "global_context": heard == 3 * last,
        "lin_neurons": shape_of(tensors, "fc.conv.weight")[0],
        "assumed": [
            "dilations 1, 2, 3 and so on, but 1 in the last layer",
            "features of spkrec-ecapa-voxceleb: 25/10 ms, Hamming, decibels, mean removed",
        ],
    }


def table(config: Mapping[str, Any]) -> Table:
    """The names are the same on both sides, but for the modules that wrap each layer."""
    kernels, channels = config["kernel_sizes"], config["channels"]
    rules = _block("blocks.0", kernels[0])
    for n in range(1, len(kernels) - 1):
        at = f"blocks.{n}"
        rules += (*_block(f"{at}.tdnn1"), *_block(f"{at}.tdnn2"))
        for part in range(config["res2net_scale"] - 1):
            rules += _block(f"{at}.res2net_block.blocks.{part}", kernels[n])
        rules += (*_conv(f"{at}.se_block.conv1"), *_conv(f"{at}.se_block.conv2"))
        rules += _conv(f"{at}.shortcut") if channels[n - 1] != channels[n] else ()
    pool = (*_block("asp.tdnn"), *_conv("asp.conv"))
    return (
        *rules,
        *_block("mfa", kernels[-1]),
        *pool,
        *batch_norm("asp_bn.norm", "asp_bn"),
        *_conv("fc"),
        BATCH_COUNTERS,
    )


def _block(at: str, kernel: int = 1) -> Table:
    return (*_conv(f"{at}.conv", kernel), *batch_norm(f"{at}.norm.norm", f"{at}.norm"))


def _conv(at: str, kernel: int = 1) -> Table:
    return (pointwise if kernel == 1 else conv1d)(f"{at}.conv", at)


FAMILY = Family(
    role="embedding",
    architectures=("SpeechBrainECAPA",),
    anchors=(f"{FIRST}.weight", f"{LAST}.weight", f"{POOL}.weight", "fc.conv.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.ecapa:SpeechBrainECAPA",
    original="samevoice.parity.originals.ecapa:build",
    reference="samevoice.parity.originals.ecapa:reference",
)
