"""SSeRiouSS: WavLM or wav2vec, a learnt mixture of its layers, LSTM, linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from samevoice.models.layers.lstm import BiLSTM
from samevoice.models.networks.suplime import Wav2VecSegmentation


class SSeRiouSS(Wav2VecSegmentation):
    def _between(self, width: int, config: Mapping[str, Any]) -> int:
        said = config["lstm"]
        hidden, both = int(said["hidden_size"]), bool(said["bidirectional"])
        outputs = hidden * (2 if both else 1)
        inputs = [width, *[outputs] * (int(said["num_layers"]) - 1)]
        self.lstm = [BiLSTM(n, hidden, both) for n in inputs]
        return outputs

    def _turned(self, x: mx.array) -> mx.array:
        for layer in self.lstm:
            x = layer(x)
        return x
