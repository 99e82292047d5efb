"""docs/porting-operations.md: every case of PyTorch, and what is written for it in MLX.

``PYTHONPATH=tests:src python -m port.page`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from port import cases_axes, cases_numbers, cases_products, cases_shapes
from port.ported import Case, Trial

from samevoice.port.operations import forms

PAGE = Path(__file__).resolve().parents[2] / "docs" / "porting-operations.md"
CASES: dict[str, list[Case]] = {
    "Numbers, pairs of numbers and choices": cases_numbers.CASES,
    "Shapes and parts": cases_shapes.CASES,
    "Whole axes and spectra": cases_axes.CASES,
    "Products, layers and pools": cases_products.CASES,
}
_HEAD = """# What `samevoice port` can write

Each line is a test: PyTorch's code, and the MLX code that is written for it. Both are run in
several sizes, one of which was not traced, and the MLX code may not err more than PyTorch's own
float32 does, within a factor. `self.m` is the layer named before the colon. Channels stand last
wherever the layers of MLX want them there.

An operation that is not listed comes out as `nn.missing("...")`, with the line of the original
above it, for you to replace. What gives more or less for other values (`masked_select`, `nonzero`,
`unique`, `x[mask]`) is refused.
"""


def row(trial: Trial) -> str:
    """| PyTorch | MLX |."""
    layers = "; ".join(trial.case.layers.values())
    said = f"{layers}: {trial.case.name}" if layers else trial.case.name
    return f"| {_code(said)} | {_code('; '.join(trial.lines).removeprefix('return '))} |"


def _code(code: str) -> str:
    """Code in a cell, in which a bar would end the cell."""
    return f"`{code}`".replace("|", "\\|")


def operations() -> str:
    """The names of all forms."""
    return ", ".join(f"`{name}`" for name in sorted(forms()))


def write() -> None:
    parts = [_HEAD]
    for title, cases in CASES.items():
        rows = dict.fromkeys(row(Trial(case)) for case in cases)
        parts.append(f"\n## {title}\n\n| PyTorch | MLX |\n| --- | --- |\n" + "\n".join(rows) + "\n")
    parts.append(f"\n## The operations of ATen\n\n{operations()}.\n")
    PAGE.write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    write()
