"""PLDA with the x-vector transform before it: two .npz files, kept in their own float types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.rules import Rule, Shape, Table, Tensor
from samevoice.errors import ConversionError
from samevoice.family import Family

_EXACT = "clustering runs in float64 on the host: a rounded PLDA moves speakers"


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    lda = tensors.get("xvec_transform.lda")
    if lda is None or len(lda.shape) != 2:
        raise ConversionError("'lda' of xvec_transform.npz is missing, or is no matrix")
    return {
        "model_type": "plda",
        "architecture": "PLDA",
        "embedding_dim": lda.shape[0],
        "lda_dim": lda.shape[1],
        "assumed": [],
    }


def table(config: Mapping[str, Any]) -> Table:
    return (
        Rule("plda.{name}", "plda.{name}", exact=_EXACT, name=("mu", "tr", "psi")),
        Rule("xvec_transform.{name}", "xvec.{name}", exact=_EXACT, name=("mean1", "mean2", "lda")),
    )


def shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """What the clustering reads; there is no MLX network behind a PLDA."""
    speech, space = config["embedding_dim"], config["lda_dim"]
    return {
        "plda.mu": (space,),
        "plda.tr": (space, space),
        "plda.psi": (space,),
        "xvec.mean1": (speech,),
        "xvec.mean2": (space,),
        "xvec.lda": (speech, space),
    }


FAMILY = Family(
    role="plda",
    architectures=("PLDA",),
    anchors=("plda.psi",),
    config=config,
    table=table,
    shapes_of_data=shapes,
)
