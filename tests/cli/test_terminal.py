"""Tallies at every width: no name is cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from samevoice.cli import terminal
from samevoice.converters.inspect import Inspection
from samevoice.converters.rules import Row

LONG = "resnet.layer4.0.shortcut.1.num_batches_tracked"
WHY = "counts training steps; inference never reads it"
ROWS = (
    Row(
        "used",
        "OIHW -> OHWI",
        "conv.weight",
        (8, 4, 3, 3),
        "float32",
        "c.w",
        (8, 3, 3, 4),
        "float32",
    ),
    Row("dropped", "drop", LONG, (), "int64", "", None, "", WHY),
)


@pytest.mark.parametrize("width", [80, 100, 120, 131, 140, 160, 200])
def test_nothing_is_cut_at_any_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    found = Inspection("checkpoint", "x", "embedding", {}, {"embedding": ROWS}, (), "")
    terminal.tensors(found, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (
        "conv.weight",
        "8×4×3×3",
        "OIHW -> OHWI",
        "c.w",
        "8×3×3×4",
        "float32",
        LONG,
        WHY,
        "int64",
    ):
        assert text in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
