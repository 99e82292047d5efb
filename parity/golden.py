"""Golden replay: what torch said, saved once, so that a machine without torch can check a bundle.

A golden folder holds for each example one safetensors file (what was fed, the truth, the float32
reference) and golden.json, which names them and the source's hash. Reading needs numpy and MLX.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.errors import SamevoiceError
from samevoice.parity.dumps import Dump, open_dump, write_dump
from samevoice.parity.inputs import Example, Recording
from samevoice.parity.judge import Verdict
from samevoice.parity.limits import Override, limits_for
from samevoice.parity.metrics import Array
from samevoice.parity.run import (
    OUTPUT,
    RECORDED,
    Floors,
    Trace,
    compare_traces,
    device_of,
    dtype_of,
    trace,
    versions,
)

if TYPE_CHECKING:
    from samevoice.models.backend import Choice

SCHEMA = 1
INDEX = "golden.json"


class GoldenError(SamevoiceError):
    """Golden data that cannot be read, or that are another model's."""


@dataclass(frozen=True)
class Golden:
    """An index that has been read: what the files are, and what they were made from."""

    folder: Path
    model_type: str
    source_sha256: str
    examples: tuple[dict[str, Any], ...]
    versions: dict[str, str]


def make(folder: str | Path, source: str | Path, examples: Iterable[Example]) -> Path:
    """Run the reference on these examples and save what it says; this part needs torch."""
    from samevoice.converters import convert
    from samevoice.parity.reference import Reference

    planned = convert.prepare(source, model_type="auto", options=convert.Options())
    if len(planned.parts) > 1:
        raise GoldenError(f"{source} is a whole pipeline: save golden data of its networks")
    part = planned.parts[0]
    reference = Reference.load(part)
    return save(
        folder,
        (trace(reference, one) for one in examples),
        model_type=part.family.model_type,
        source_sha256=convert.fingerprint(part.source_hashes),
        versions=versions(),
    )


def save(
    folder: str | Path,
    traces: Iterable[Trace],
    *,
    model_type: str,
    source_sha256: str,
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Write what the reference said on these examples; their depth is kept."""
    folder = Path(folder)
    if (folder / INDEX).exists():
        raise GoldenError(f"{folder} holds golden data already: choose another folder")
    rows: list[dict[str, Any]] = []
    for number, traced in enumerate(traces):
        file = f"{number:03d}.safetensors"
        write_dump(folder / file, dict(_packed(traced)))
        example = traced.example
        row = {"file": file, "name": example.name, "depth": example.depth}
        rows.append(
            {**row, "labels": list(example.labels), "sha256": example.sha256, **_order(traced)}
        )
    index = {
        "schema": SCHEMA,
        "model_type": model_type,
        "source_sha256": source_sha256,
        "versions": dict(versions or {}),
        "examples": rows,
    }
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")
    return folder


def _order(traced: Trace) -> dict[str, Any]:
    return {"order": traced.plain.order or list(traced.plain.outputs)}


def _packed(traced: Trace) -> Iterator[tuple[str, Array]]:
    """Arrays by part and name; the inputs once, as both modes are fed with the float32 ones."""
    yield "fed/waveforms", traced.example.waveforms
    if traced.example.masks is not None:
        yield "fed/masks", traced.example.masks
    yield from _named("truth", traced.truth.outputs)
    yield from _named("plain", traced.plain.outputs)
    if traced.local is not None:
        yield from _named("inputs", traced.plain.inputs)
        yield from _named("local", traced.local.outputs)
        yield from _named("local-inputs", traced.local.inputs)
    # All evaluations, needed here or not: where this is replayed there is no torch to ask.
    for name, outputs in traced.floors.items():
        yield from _named(f"floor {name}", outputs)


def _named(part: str, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    for name, array in arrays.items():
        yield f"{part}/{name}", array


def read(folder: str | Path) -> Golden:
    """The index of a golden folder."""
    path = Path(folder) / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GoldenError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise GoldenError(f"{path} is not JSON: {error}") from None
    if not isinstance(index, dict) or index.get("schema") != SCHEMA:
        raise GoldenError(f"{path} is no golden index of schema {SCHEMA}: save it anew")
    try:
        return Golden(
            Path(folder),
            index["model_type"],
            index["source_sha256"],
            tuple(index["examples"]),
            index["versions"],
        )
    except KeyError as error:
        raise GoldenError(f"{path} lacks {error}: save it anew") from None


def traces(golden: Golden) -> Iterator[Trace]:
    """What the reference said, one example at a time; inputs are checked against their hashes."""
    for row in golden.examples:
        dump = open_dump(golden.folder / row["file"])
        fed = _part(dump, "fed")
        example = Example(
            row["name"],
            fed["waveforms"],
            fed.get("masks"),
            depth=row["depth"],
            labels=tuple(row["labels"]),
        )
        if example.sha256 != row["sha256"]:
            raise GoldenError(f"{dump.path}: the inputs of {example.name!r} are not those saved")
        yield Trace(example, *_recordings(dump, row))


def _recordings(
    dump: Dump, row: Mapping[str, Any]
) -> tuple[Recording, Recording, Recording | None, Callable[[], Floors]]:
    plain = Recording(_part(dump, "plain"), _part(dump, "inputs"), list(row["order"]))
    local = Recording(_part(dump, "local"), _part(dump, "local-inputs"))
    parts = dict.fromkeys(name.partition("/")[0] for name in dump)

    def floors() -> Floors:
        found = (part for part in parts if part.startswith("floor "))
        return {part.removeprefix("floor "): _part(dump, part) for part in found}

    return Recording(_part(dump, "truth")), plain, local if local.outputs else None, floors


def _part(dump: Dump, part: str) -> dict[str, Array]:
    names = (name for name in dump if name.startswith(f"{part}/"))
    return {name.removeprefix(f"{part}/"): dump[name] for name in names}


def replay(
    bundle: str | Path,
    golden: str | Path,
    *,
    device: Choice = "auto",
    overrides: Iterable[Override] = (),
) -> Verdict:
    """A bundle against what torch once said of its source; neither torch nor pyannote is needed."""
    from samevoice.converters import bundle as bundles
    from samevoice.parity.candidate import Candidate

    folder, said = Path(bundle), read(golden)
    config = bundles.read_json(folder / bundles.CONFIG)
    if config.get("model_type") != said.model_type:
        raise GoldenError(
            f"{folder} is a {config.get('model_type')}, the golden data a {said.model_type}'s"
        )
    sources = bundles.read_json(folder / bundles.PROVENANCE)["sources"]
    if sources[said.model_type]["sha256"] != said.source_sha256:
        raise GoldenError(
            f"{folder} was made from another source than the golden data in {said.folder}: "
            "save golden data of that source"
        )
    candidate = Candidate.load(folder, device)
    limits = limits_for(said.model_type, dtype_of(config), device_of(candidate))
    order = _order_of(said)
    return compare_traces(traces(said), candidate, limits.overridden(overrides), order=order)


def _order_of(golden: Golden) -> list[str]:
    """Every tap that these examples must have, in the reference's order."""
    depths = {row["depth"]: row["order"] for row in golden.examples}
    if "full" in depths:
        return [*depths["full"], RECORDED]
    if "free" in depths:
        return [*(tap for tap in depths["free"] if not tap.endswith(".input")), RECORDED]
    return [OUTPUT]
