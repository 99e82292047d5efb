"""Resemblyzer's voice encoder, and whatever Real-Time-Voice-Cloning trains in the same form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import affine, lstm
from samevoice.converters.rules import Drop, Table, Tensor, count_of, shape_of
from samevoice.family import Family

_LOSS = "scales likeness in the training loss; an embedding never sees it"


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes from the tensors."""
    del metadata
    return {
        "model_type": "embedding",
        "architecture": "VoiceEncoder",
        "sample_rate": 16000,
        "num_mel_bins": shape_of(tensors, "lstm.weight_ih_l0")[-1],
        "hidden_size": shape_of(tensors, "lstm.weight_hh_l0")[-1],
        "num_layers": count_of(tensors, r"lstm\.weight_ih_l(\d+)"),
        "embedding_size": shape_of(tensors, "linear.weight")[0],
        "assumed": [
            "mel powers of librosa's kind, 25/10 ms, and parts of 1.6 s, as in resemblyzer"
        ],
    }


def table(config: Mapping[str, Any]) -> Table:
    layers = range(config["num_layers"])
    return (
        *(rule for i in layers for rule in lstm("lstm", f"lstm.{i}", layer=i)),
        *affine("linear", "linear"),
        Drop("similarity_weight", why=_LOSS),
        Drop("similarity_bias", why=_LOSS),
    )


FAMILY = Family(
    role="embedding",
    architectures=("VoiceEncoder",),
    anchors=("similarity_weight", "lstm.weight_ih_l0", "linear.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.resemblyzer:VoiceEncoder",
    original="samevoice.parity.originals.resemblyzer:build",
    reference="samevoice.parity.originals.resemblyzer:reference",
)
