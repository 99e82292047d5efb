"""Convert speaker models from PyTorch to MLX, and prove that they still hear the same voices.

import samevoice

samevoice.convert("pyannote/segmentation-3.0", "segmentation-mlx")
samevoice.inspect("segmentation-mlx").tallies
model = samevoice.load("segmentation-mlx")
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from samevoice.errors import SamevoiceError

if TYPE_CHECKING:
    from samevoice.converters.convert import convert
    from samevoice.converters.inspect import inspect
    from samevoice.converters.restore import to_torch
    from samevoice.models.registry import load
    from samevoice.versions import __version__

__all__ = ["SamevoiceError", "__version__", "convert", "inspect", "load", "to_torch"]

# Looked up on first use: importing samevoice costs nothing, and inference never needs the rest.
_HOMES = {
    "__version__": "samevoice.versions",
    "convert": "samevoice.converters.convert",
    "inspect": "samevoice.converters.inspect",
    "to_torch": "samevoice.converters.restore",
    "load": "samevoice.models.registry",
}

# Four packages are links to the folders at the top of a clone. What makes no links leaves files.
for _name in ("converters", "models", "parity", "reports"):
    if os.path.isfile(_link := os.path.join(os.path.dirname(__file__), _name)):
        raise ImportError(
            f"{_link} is a file, not a link: this copy was made without links; clone with git "
            "(git clone -c core.symlinks=true), or take the source distribution"
        )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'samevoice' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
