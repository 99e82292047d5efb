"""pyannote.audio's ``XVectorSincNet``: SincNet, five layers along time, mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import (
    BATCH_COUNTERS,
    affine,
    batch_norm,
    conv1d,
    pointwise,
    sincnet,
)
from samevoice.converters.rules import Table, Tensor, shape_of
from samevoice.family import Family

# Of pyannote's class, which has no others.
KERNELS, DILATIONS = (5, 3, 3, 1, 1), (1, 2, 3, 1, 1)
FIRST, LAST = "tdnns.0.weight", "tdnns.12.weight"


def layers(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What both x-vectors have: layers along time, and whether the rest was saved with them."""
    given = metadata.get("hyper_parameters") or {}
    return {
        "model_type": "embedding",
        "sample_rate": given.get("sample_rate", 16000),
        "num_channels": given.get("num_channels", 1),
        "channels": [shape_of(tensors, f"tdnns.{3 * n}.weight")[0] for n in range(len(KERNELS))],
        "kernel_sizes": list(KERNELS),
        "dilations": list(DILATIONS),
        "dimension": shape_of(tensors, "embedding.weight")[0],
    }


def layers_table() -> Table:
    """torch's list holds convolution, activation and norm in turn."""
    rules: Table = ()
    for n, kernel in enumerate(KERNELS):
        conv = pointwise if kernel == 1 else conv1d
        rules += (
            *conv(f"tdnns.{3 * n}", f"tdnn.{n}"),
            *batch_norm(f"tdnns.{3 * n + 2}", f"norm.{n}"),
        )
    return (*rules, *affine("embedding", "embedding"), BATCH_COUNTERS)


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network wants them: sizes from the tensors, the rest as saved."""
    stride = (metadata.get("hyper_parameters") or {}).get("sincnet", {}).get("stride")
    assumed = "sincnet.stride 10: pyannote's default, the tensors do not show it"
    return {
        **layers(tensors, metadata),
        "architecture": "XVectorSincNet",
        "sincnet": {"stride": stride or 10},
        "assumed": [] if stride else [assumed],
    }


def table(config: Mapping[str, Any]) -> Table:
    del config
    return (*sincnet("sincnet", "sincnet"), *layers_table())


FAMILY = Family(
    role="embedding",
    architectures=("XVectorSincNet",),
    anchors=("sincnet.wav_norm1d.weight", FIRST, LAST, "embedding.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.xvector:XVectorSincNet",
    original="samevoice.parity.originals.xvector:build",
    reference="samevoice.parity.originals.xvector:sincnet_reference",
)
