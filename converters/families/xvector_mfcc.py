"""pyannote.audio's ``XVectorMFCC``: torchaudio's MFCCs, five layers along time, two moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.families import xvector
from samevoice.converters.rules import Rule, Table, Tensor, shape_of
from samevoice.family import Family

COSINES, BANKS = "mfcc.dct_mat", "mfcc.MelSpectrogram.mel_scale.fb"
WINDOW = "mfcc.MelSpectrogram.spectrogram.window"
_EXACT = "features are computed in float32, whatever the layers behind them are"


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network wants them: sizes from the tensors, the rest as saved."""
    saved = (metadata.get("hyper_parameters") or {}).get("mfcc")
    mels, cosines = shape_of(tensors, COSINES)
    sizes = {"n_fft": 2 * (shape_of(tensors, BANKS)[0] - 1), "n_mels": mels}
    sizes["win_length"] = shape_of(tensors, WINDOW)[0]
    given = {name: value for name, value in (saved or {}).items() if name != "sample_rate"}
    given["melkwargs"] = {**sizes, **(given.get("melkwargs") or {})}
    return {
        **xvector.layers(tensors, metadata),
        "architecture": "XVectorMFCC",
        "mfcc": {**given, "n_mfcc": cosines},
        "assumed": [] if saved else ["MFCCs as pyannote's class computes them without options"],
    }


def table(config: Mapping[str, Any]) -> Table:
    del config
    return (
        Rule(COSINES, "mfcc.cosines", exact=_EXACT),
        Rule(BANKS, "mfcc.banks", exact=_EXACT),
        Rule(WINDOW, "mfcc.window", exact=_EXACT),
        *xvector.layers_table(),
    )


FAMILY = Family(
    role="embedding",
    architectures=("XVectorMFCC",),
    anchors=(COSINES, xvector.FIRST, xvector.LAST, "embedding.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.xvector:XVectorMFCC",
    original="samevoice.parity.originals.xvector:build",
    reference="samevoice.parity.originals.xvector:mfcc_reference",
)
