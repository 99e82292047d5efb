"""Parity: a port and its original on the same inputs, every layer judged.

``compare`` is for anyone's own modules. The bundles' own comparison is ``samevoice.parity.run``.
Nothing is imported before it is asked for: judging needs numpy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samevoice.parity.modules import compare as compare

__all__ = ["compare"]


def __getattr__(name: str) -> Any:
    if name == "compare":
        from importlib import import_module

        globals()[name] = import_module("samevoice.parity.modules").compare
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
