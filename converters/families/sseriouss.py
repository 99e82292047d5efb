"""SSeRiouSS of pyannote.audio: WavLM or wav2vec, LSTM layers, linear layers, a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.families.pyannet import lstm_layers, sizes_of_lstm
from samevoice.converters.families.suplime import end, front, segmentation
from samevoice.converters.rules import Table, Tensor
from samevoice.family import Family


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network wants them: sizes from the tensors, the rest as saved.

    A checkpoint may say no more of its wav2vec network than the name of torchaudio's bundle.
    """
    return segmentation(tensors, metadata, "SSeRiouSS") | {"lstm": sizes_of_lstm(tensors)}


def table(config: Mapping[str, Any]) -> Table:
    return (*front(config), *lstm_layers(config["lstm"]), *end(config))


FAMILY = Family(
    role="segmentation",
    architectures=("SSeRiouSS",),
    anchors=("wav2vec_weights", "classifier.weight", "lstm.weight_ih_l0"),
    config=config,
    table=table,
    network="samevoice.models.networks.sseriouss:SSeRiouSS",
    original="samevoice.parity.originals.sseriouss:build",
    reference="samevoice.parity.originals.sseriouss:reference",
)
