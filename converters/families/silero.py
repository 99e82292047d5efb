"""Silero VAD, which tells speech from all else, by the names of its package's safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import conv1d, pointwise
from samevoice.converters.rules import Rule, Table, Tensor, each, shape_of
from samevoice.converters.transforms import ADD_BIASES, OIK_TO_OKI
from samevoice.errors import ConversionError
from samevoice.family import Family

CONVOLUTIONS = (1, 2, 3, 4)
# What no tensor shows, at 16 kHz: each window is heard with the samples that came before it.
WINDOW, CONTEXT, FILTER = 512, 64, 256
# The settings that its own get_speech_timestamps begins with, in samevoice's words.
DETECTION = {
    "task": "voice-activity",
    "onset": 0.5,
    "offset": 0.35,
    "min_duration_on": 0.25,
    "min_duration_off": 0.1,
}


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes from the tensors; what they do not show is the same for every Silero VAD at 16 kHz."""
    del metadata
    filters, _, samples = shape_of(tensors, "stft_conv.weight")
    if samples != FILTER:
        raise ConversionError(
            f"'stft_conv.weight' has filters of {samples} samples: the Silero VAD for 16 kHz, the "
            f"only one that is known here, has {FILTER}"
        )
    return {
        "model_type": "segmentation",
        "architecture": "SileroVAD",
        "sample_rate": 16000,
        "window": WINDOW,
        "context": CONTEXT,
        "filters": filters,
        "channels": [shape_of(tensors, f"conv{i}.weight")[0] for i in CONVOLUTIONS],
        "hidden_size": shape_of(tensors, "lstm_cell.weight_hh")[1],
        "num_classes": 1,
        "activation": "sigmoid",
        "specifications": {
            "problem": "MULTI_LABEL_CLASSIFICATION",
            "resolution": "FRAME",
            "duration": 10.0,
            "min_duration": None,
            "warm_up": [0.0, 0.0],
            "classes": ["speech"],
            "powerset_max_classes": None,
            "permutation_invariant": False,
        },
        "detection": DETECTION,
        "assumed": [
            "windows of 512 samples behind 64 more, and thresholds, as silero_vad has them"
        ],
    }


def table(config: Mapping[str, Any]) -> Table:
    del config
    cell = "lstm_cell"
    return (
        Rule("stft_conv.weight", "stft_conv.weight", OIK_TO_OKI),
        *each(conv1d("conv{i}", "conv{i}"), i=CONVOLUTIONS),
        Rule(f"{cell}.weight_ih", "lstm.Wx"),
        Rule(f"{cell}.weight_hh", "lstm.Wh"),
        Rule((f"{cell}.bias_ih", f"{cell}.bias_hh"), "lstm.bias", ADD_BIASES),
        *pointwise("final_conv", "final_conv"),
    )


FAMILY = Family(
    role="segmentation",
    architectures=("SileroVAD",),
    anchors=("stft_conv.weight", "lstm_cell.weight_ih", "final_conv.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.silero:SileroVAD",
    original="samevoice.parity.originals.silero:build",
    reference="samevoice.parity.originals.silero:reference",
)
