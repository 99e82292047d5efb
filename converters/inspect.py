"""What a bundle holds, or what a source would become: the tally, without converting anything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.converters import bundle
from samevoice.converters.convert import Conversion, Options, config_of, prepare
from samevoice.converters.rules import FATES, Row
from samevoice.errors import BundleError

UNRECORDED = "its provenance holds no hashes: nobody can tell whether its files were changed"


@dataclass(frozen=True)
class Inspection:
    """The tally of each part, and whether a bundle's files are still those that were written."""

    kind: str  # "bundle" or "checkpoint"
    name: str
    model_type: str
    config: Mapping[str, Any]
    tallies: Mapping[str, tuple[Row, ...]]  # part -> lines
    notes: tuple[str, ...]
    note: str
    changed: tuple[str, ...] = ()  # files that are missing, added or not as written
    checked: bool = True  # whether a bundle's files could be held against recorded hashes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect(
    path: str | Path, *, model_type: str = "auto", revision: str | None = None
) -> Inspection:
    """Look at a bundle, or at a checkpoint as ``convert`` would see it; nothing is written."""
    folder = Path(path)
    if os.path.isdir(folder) and bundle.is_bundle(folder):
        if revision is not None or model_type != "auto":
            raise BundleError(f"{folder} is a bundle: --revision and --model-type are for sources")
        return _bundle(folder)
    return of_conversion(
        prepare(path, model_type=model_type, options=Options(), revision=revision), str(path)
    )


def of_conversion(made: Conversion, name: str) -> Inspection:
    part = made.parts[0]
    return Inspection(
        kind="checkpoint",
        name=name,
        model_type=made.model_type,
        config=dict(made.settings) if made.pipeline else config_of(part, made.note),
        tallies={part.family.role: part.rows for part in made.parts},
        notes=tuple(note for part in made.parts for note in part.notes),
        note=made.note,
    )


def _bundle(folder: Path) -> Inspection:
    provenance = bundle.read_json(folder / bundle.PROVENANCE)
    config = bundle.read_json(folder / bundle.CONFIG)
    with bundle.understood(folder / bundle.PROVENANCE):
        parts = bundle.components(config) or ("",)
        tallies = {part or provenance["model_type"]: _rows(folder / part) for part in parts}
        recorded = dict(provenance.get("outputs", {}))
        unknown = () if recorded else (UNRECORDED,)
        return Inspection(
            "bundle",
            str(folder),
            provenance["model_type"],
            config,
            tallies,
            (*map(str, provenance["notes"]), *unknown),
            str(provenance["note"]),
            bundle.changed(folder, recorded) if recorded else (),
            checked=bool(recorded),
        )


def _rows(folder: Path) -> tuple[Row, ...]:
    def shape(value: Any) -> tuple[int, ...] | None:
        return None if value is None else tuple(value)

    rows = tuple(
        Row(**row | {side: shape(row[side]) for side in ("source_shape", "target_shape")})
        for row in bundle.read_json(folder / bundle.PROVENANCE)["tensors"]
    )
    for row in rows:
        texts = (row.fate, row.rule, row.source, row.source_dtype, row.target, row.target_dtype)
        sizes = (*(row.source_shape or ()), *(row.target_shape or ()))
        if row.fate not in FATES or not all(isinstance(x, str) for x in (*texts, row.why)):
            raise ValueError(f"a tensor's fate {row.fate!r:.40} or one of its texts")
        if not all(type(size) is int and 0 <= size < 1 << 40 for size in sizes):
            raise ValueError(f"the shape of {row.source!r:.80}")
    return rows


def values(rows: tuple[Row, ...]) -> Counter[str]:
    """How many numbers of the source met which fate."""
    sizes = {
        row.source: (row.fate, row.source_shape) for row in rows if row.source_shape is not None
    }
    found: Counter[str] = Counter()
    for fate, shape in sizes.values():
        found[fate] += int(np.prod(shape, dtype=np.int64))
    return found
