"""The files of a package, with a $name for what differs."""

from __future__ import annotations

from string import Template

FAMILY = Template(
    '''"""What becomes of each tensor of a checkpoint of $architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.layers import $rules
from samevoice.converters.rules import Drop, Rule, Table, Tensor, each
from samevoice.converters.transforms import permuted
from samevoice.family import Family

# What it is fed when it is compared: a letter is a size that may be another one.
FED: dict[str, Any] = $fed


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The network has one shape, so nothing is read off the tensors."""
    del tensors, metadata
    return {"model_type": "network", "architecture": "$architecture", **FED}


def table(config: Mapping[str, Any]) -> Table:
    """The names are the original's."""
    del config
    return (
$table
        BATCH_COUNTERS,
$drops
    )


FAMILY = Family(
    role="network",
    architectures=("$architecture",),
    anchors=$anchors,
    config=config,
    table=table,
    network="$network:$kind",
    original="$original:build",
    reference="$original:reference",
)
'''
)

ORIGINAL = Template(
    '''"""$architecture as its authors wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.parity import authors, hints, seeding

if TYPE_CHECKING:
    import torch

Orders = dict[str, tuple[tuple[int, ...] | None, tuple[int, ...] | None]]
CLASS = "$spec"
ARGS: dict[str, Any] = $args
TENSORS = "$tensors"  # of their names and shapes: once they are others, so are the seeded weights
$tables

def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' own class, which must be installed or lie in the current folder."""
    del config
    module = authors.in_float32(authors.own(CLASS)(**ARGS))
$marks
    return module.eval()


def reference(folder: Path, small: bool) -> None:
    """Seeded weights, where trained ones are not at hand; there is one shape."""
    del small
    from $family import config

    seeding.write_fed(build, config({}, {}), folder)
'''
)

TEST = Template(
    '''"""$architecture gives in MLX what its authors' class gives in PyTorch."""

from pathlib import Path

from samevoice.converters.convert import convert
from samevoice.parity.run import run

SOURCE = "reference:$architecture"


def test_every_layer_agrees(tmp_path: Path) -> None:
    convert(SOURCE, tmp_path / "bundle")
    result = run(tmp_path / "bundle", SOURCE)
    assert result.passed, result.first_divergence
'''
)

PROJECT = Template(
    """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "$architecture in MLX, converted and compared by samevoice"
requires-python = ">=3.11"
dependencies = ["samevoice"]

[project.optional-dependencies]
parity = ["samevoice[parity]"]

[project.entry-points."samevoice.families"]
$name = "$name.family:FAMILY"

[tool.setuptools]
packages = ["$name"]
$data
[tool.mypy]
strict = true
"""
)

README = Template(
    """# $architecture in MLX

A port of `$spec`, written by `samevoice port`. It takes $given.

```sh
pip install --editable .
samevoice convert CHECKPOINT --mlx-path bundle --model-type $architecture
samevoice parity bundle --source CHECKPOINT
```

`reference:$architecture` instead of CHECKPOINT is the network with seeded weights. The
original must be installed for the comparison: `$module`.

`$name/network.py` is the network, `family.py` says what becomes of each tensor, and
`original.py` builds the authors' class. They are yours to edit; `pytest tests` says whether
every layer still agrees.
"""
)
