"""Networks built in two steps: pyannote's have to be told their task before they are whole."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models import segmentation

WAV2VEC: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 2), (16, 3, 2), (12, 3, 2), (20, 2, 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 40,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}
LSTM = {"hidden_size": 24, "num_layers": 2, "bidirectional": True, "monolithic": True}


def pyannet() -> Any:
    return _told(segmentation.PyanNet(lstm={**LSTM, "dropout": 0.0}))


def sseriouss() -> Any:
    return _told(segmentation.SSeRiouSS(wav2vec=WAV2VEC, lstm={**LSTM, "dropout": 0.0}))


def suplime() -> Any:
    network = import_module("suplime.models.segmentation").SuplimeSegmentation
    wavlm = {**WAV2VEC, "encoder_num_buckets": 32, "encoder_max_distance": 60}
    conformer = {"num_heads": 4, "ffn_dim": 32, "num_layers": 2, "depthwise_conv_kernel_size": 7}
    return _told(network(wav2vec=wavlm, conformer={**conformer, "dropout": 0.0}))


def _told(model: Any) -> Any:
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=5.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    return model
