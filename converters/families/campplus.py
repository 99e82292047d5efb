"""CAM++ of 3D-Speaker, a speaker embedding network, as ``speakerlab.models.campplus`` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import (
    BATCH_COUNTERS,
    batch_norm,
    conv1d,
    conv2d,
    pointwise,
)
from samevoice.converters.rules import Table, Tensor, count_of, each, shape_of
from samevoice.family import Family

BLOCKS = (1, 2, 3)
# No checkpoint says what it was trained to hear: these are 3D-Speaker's, for all of its CAM++.
FBANK = {
    "sample_rate": 16000,
    "frame_length": 25.0,
    "frame_shift": 10.0,
    "round_to_power_of_two": True,
    "snip_edges": True,
    "dither": 0.0,
    "window_type": "povey",
    "use_energy": False,
    "fbank_centering_span": None,
    "full_scale": 1.0,
}


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network and the authors' class want them, all from the shapes."""
    del metadata
    channels = shape_of(tensors, "head.conv1.weight")[0]
    init_channels, front, _ = shape_of(tensors, "xvector.tdnn.linear.weight")
    growth, middle, _ = shape_of(tensors, "xvector.block1.tdnnd1.cam_layer.linear_local.weight")
    return {
        "model_type": "embedding",
        "architecture": "CAMPPlus",
        **FBANK,
        "num_mel_bins": front // channels * 8,  # the head halves them three times
        "m_channels": channels,
        "init_channels": init_channels,
        "growth_rate": growth,
        "bn_size": middle // growth,
        "layers": [count_of(tensors, rf"xvector\.block{block}\.tdnnd(\d+)\.") for block in BLOCKS],
        "embedding_size": shape_of(tensors, "xvector.dense.linear.weight")[0],
        "assumed": ["fbank as 3D-Speaker computes it: 25/10 ms, Povey, samples from -1 to 1"],
    }


def table(config: Mapping[str, Any]) -> Table:
    """Every name is the same on both sides; convolutions of one tap become linear layers."""
    rules = (*_conv2d("head", "1"), *_conv2d("head", "2"))
    for stage in ("head.layer1", "head.layer2"):
        rules += each((*_conv2d(f"{stage}.{{n}}", "1"), *_conv2d(f"{stage}.{{n}}", "2")), n=(0, 1))
        shortcut = f"{stage}.0.shortcut"
        rules += conv2d(f"{shortcut}.0", f"{shortcut}.0", bias=False)
        rules += _norm(f"{shortcut}.1")
    tdnn = "xvector.tdnn"
    rules += conv1d(f"{tdnn}.linear", f"{tdnn}.linear", bias=False)
    rules += _norm(f"{tdnn}.nonlinear.batchnorm")
    for block, layers in zip(BLOCKS, config["layers"], strict=True):
        rules += each(_dense_layer(f"xvector.block{block}.tdnnd{{n}}"), n=range(1, layers + 1))
        transit = f"xvector.transit{block}"
        rules += _norm(f"{transit}.nonlinear.batchnorm")
        rules += _linear(f"{transit}.linear", bias=False)
    norm = "xvector.dense.nonlinear.batchnorm"
    return (
        *rules,
        *_norm("xvector.out_nonlinear.batchnorm"),
        *_linear("xvector.dense.linear", bias=False),
        *batch_norm(norm, norm, affine=False),
        BATCH_COUNTERS,
    )


def _dense_layer(at: str) -> Table:
    local = f"{at}.cam_layer.linear_local"
    return (
        *_norm(f"{at}.nonlinear1.batchnorm"),
        *_linear(f"{at}.linear1", bias=False),
        *_norm(f"{at}.nonlinear2.batchnorm"),
        *conv1d(local, local, bias=False),
        *_linear(f"{at}.cam_layer.linear1"),
        *_linear(f"{at}.cam_layer.linear2"),
    )


def _conv2d(at: str, number: str) -> Table:
    conv = f"{at}.conv{number}"
    return (*conv2d(conv, conv, bias=False), *_norm(f"{at}.bn{number}"))


def _norm(name: str) -> Table:
    return batch_norm(name, name)


def _linear(name: str, *, bias: bool = True) -> Table:
    return pointwise(name, name, bias=bias)


FAMILY = Family(
    role="embedding",
    architectures=("CAMPPlus",),
    anchors=(
        "head.conv2.weight",
        "xvector.tdnn.linear.weight",
        "xvector.block1.tdnnd1.cam_layer.linear_local.weight",
    ),
    config=config,
    table=table,
    network="samevoice.models.networks.campplus:CAMPPlus",
    original="samevoice.parity.originals.campplus:build",
    reference="samevoice.parity.originals.campplus:reference",
)
