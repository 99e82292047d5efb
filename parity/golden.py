"""Golden replay: what torch said, saved once, so that a machine without torch can check a bundle.

A golden folder holds for each example one safetensors file (what was fed, the truth, the float32
reference) and golden.json, which names them and the source's hash. ``make`` keeps every tap;
``along`` keeps the outputs of a comparison that runs anyway. replay.py reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from samevoice.converters.bundle import written_aside
from samevoice.errors import SamevoiceError
from samevoice.files import read_versioned
from samevoice.outputs import is_result
from samevoice.parity import roles
from samevoice.parity.dumps import Dump, open_dump, write_dump
from samevoice.parity.engine import Floors, Trace, trace
from samevoice.parity.identity import versions
from samevoice.parity.inputs import OUTPUT_ONLY, Depth, Example, Recording
from samevoice.parity.metrics import Array

if TYPE_CHECKING:
    from samevoice.converters import convert

SCHEMA = 1
INDEX = "golden.json"
FOLDER = "golden"  # beside a result
FILE = re.compile(r"\d{3,}\.safetensors")


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

    @property
    def files(self) -> tuple[str, ...]:
        """All that belongs to it."""
        return (INDEX, *(row["file"] for row in self.examples))


def make(folder: str | Path, source: str | Path, examples: Iterable[Example]) -> Path:
    """Run the reference on these examples and save what it says; this part needs torch."""
    from samevoice.converters import convert
    from samevoice.parity.reference import Reference

    part = network_of(source)
    reference = Reference.load(part)
    return save(
        folder,
        (trace(reference, one) for one in examples),
        model_type=part.family.role,
        source_sha256=convert.fingerprint(part.source_hashes),
        versions=versions(),
    )


def network_of(source: str | Path) -> convert.Part:
    """What golden data are made from: one network, so that a whole pipeline is refused."""
    from samevoice.converters import convert

    planned = convert.prepare(source, model_type="auto", options=convert.Options())
    if len(planned.parts) > 1:
        raise GoldenError(f"{source} is a whole pipeline: save golden data of its networks")
    return planned.parts[0]


def save(
    folder: str | Path,
    traces: Iterable[Trace],
    *,
    model_type: str,
    source_sha256: str,
    versions: Mapping[str, str],
) -> Path:
    """Write what the reference said on these examples."""
    folder = Path(folder)
    with written_anew(folder) as aside:
        rows = [write_example(aside, k, one) for k, one in enumerate(traces)]
        write_index(aside, rows, model_type, source_sha256, versions)
    return folder


def along(
    folder: str | Path,
    traces: Iterable[Trace],
    evaluate: Callable[[Example], Floors],
    *,
    private: Collection[str] = (),
    model_type: str,
    source_sha256: str,
    versions: Mapping[str, str],
) -> Generator[Trace, None, None]:
    """The same traces; once the last has passed, ``folder`` holds the output of each.

    ``evaluate`` gives the outputs of the reference's other evaluations. Examples named ``private``
    are left out: golden data are published, and somebody's recordings must not be.
    """
    with written_anew(Path(folder)) as aside:
        rows: list[dict[str, Any]] = []
        for traced in traces:
            yield traced
            if traced.example.name not in private:
                rows.append(write_example(aside, len(rows), _outputs_of(traced, evaluate)))
        write_index(aside, rows, model_type, source_sha256, versions)


@contextmanager
def written_anew(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of older golden data when all is there."""
    if folder.exists() and not is_result(folder, "golden"):
        raise GoldenError(f"{folder} holds other files than golden data: move them away")
    with written_aside(folder, overwrite=True, replaceable=lambda old: True) as aside:
        yield aside


def _outputs_of(traced: Trace, evaluate: Callable[[Example], Floors]) -> Trace:
    """A trace as it would be had nobody looked deeper than the output."""
    example = replace(traced.example, depth=OUTPUT_ONLY)
    truth, plain = (
        Recording(outputs={name: one.outputs[name] for name in one.final_outputs})
        for one in (traced.truth, traced.plain)
    )
    return Trace(example, truth, plain, evaluate=lambda: evaluate(example))


def write_example(folder: Path, number: int, traced: Trace) -> dict[str, Any]:
    """One file, and the row of the index that names it."""
    file, example = f"{number:03d}.safetensors", traced.example
    write_dump(folder / file, _packed(traced))
    return {
        "file": file,
        "name": example.name,
        "depth": example.depth,
        "labels": list(example.labels),
        "sha256": example.sha256,
        "order": traced.plain.order or list(traced.plain.outputs),
    }


def write_index(
    folder: Path,
    rows: list[dict[str, Any]],
    model_type: str,
    source_sha256: str,
    versions: Mapping[str, str],
) -> None:
    index = {
        "schema": SCHEMA,
        "model_type": model_type,
        "source_sha256": source_sha256,
        "versions": dict(versions),
        "examples": rows,
    }
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")


def _packed(traced: Trace) -> dict[str, Array]:
    """Arrays by part and name; the inputs once, as both modes are fed with the float32 ones."""
    plain, local = traced.plain, traced.local
    parts: dict[str, Mapping[str, Array]] = {
        "fed": traced.example.fed,
        "truth": traced.truth.outputs,
        "plain": plain.outputs,
    }
    if local is not None:
        parts |= {"inputs": plain.inputs, "local": local.outputs, "local-inputs": local.inputs}
    # All evaluations, needed here or not: where this is replayed there is no torch to ask.
    parts |= {f"floor {name}": outputs for name, outputs in traced.floors.items()}
    return {f"{part}/{name}": x for part, arrays in parts.items() for name, x in arrays.items()}


def read(folder: str | Path) -> Golden:
    """The index of a golden folder."""
    path = Path(folder) / INDEX
    otherwise = f"is no golden index of schema {SCHEMA}: save it anew"
    index = read_versioned(path, SCHEMA, GoldenError, otherwise)
    try:
        found = Golden(
            Path(folder),
            str(index["model_type"]),
            str(index["source_sha256"]),
            tuple(dict(row) for row in index["examples"]),
            dict(index["versions"]),
        )
        _check_rows(found, path)
    except KeyError as error:
        raise GoldenError(f"{path} lacks {error}: save it anew") from None
    except (TypeError, ValueError) as error:
        raise GoldenError(f"{path} is not what was saved ({error}): save it anew") from None
    return found


def _check_rows(found: Golden, path: Path) -> None:
    """Every example by its own name, in a file of its own that lies in the folder."""
    whole = roles.named(found.model_type).examples is None
    for row in found.examples:
        _check_types(row, whole=whole)
    for key in ("name", "file"):
        names = [row[key] for row in found.examples]
        if len(set(names)) < len(names):
            raise GoldenError(f"{path} names a {key} twice: save it anew")
    for name in (row["file"] for row in found.examples):
        if not FILE.fullmatch(str(name)):
            raise GoldenError(f"{path} names {name!r}, which lies outside of it or is no example")
        if not (found.folder / name).is_file():
            raise GoldenError(f"{found.folder / name} is missing: save it anew")


def _check_types(row: Mapping[str, Any], *, whole: bool) -> None:
    """A row as it was written, of a network or of a pipeline; else a KeyError or a TypeError."""
    # Of a pipeline, the labels of each kind of turns.
    lists = [*dict(row.get("labels", {})).values()] if whole else [row["labels"], row["order"]]
    if not whole and row["depth"] not in get_args(Depth):
        raise TypeError(f"depth {row['depth']!r:.40}")
    for one in lists:
        if not isinstance(one, list):
            raise TypeError(f"{one!r:.40} for a list")
    texts = [row[key] for key in ("name", "file", "sha256")]
    for one in (*texts, *chain.from_iterable(lists)):
        if not isinstance(one, str):
            raise TypeError(f"{one!r:.40} for a text")


def opened(golden: Golden, row: Mapping[str, Any]) -> tuple[Dump, Example]:
    """The file of an example, and what both sides were fed, checked against its hash."""
    dump = open_dump(golden.folder / row["file"])
    fed = part_of(dump, "fed")
    example = Example.of_fed(row["name"], fed)
    if example.sha256 != row["sha256"]:
        raise GoldenError(f"{dump.path}: the inputs of {example.name!r} are not those saved")
    return dump, example


def traces(golden: Golden) -> Iterator[Trace]:
    """What the reference said, one example at a time; inputs are checked against their hashes."""
    for row in golden.examples:
        dump, fed = opened(golden, row)
        example = replace(fed, depth=row["depth"], labels=tuple(row["labels"]))
        plain = Recording(part_of(dump, "plain"), part_of(dump, "inputs"), list(row["order"]))
        local = Recording(part_of(dump, "local"), part_of(dump, "local-inputs"))
        deep = local if local.outputs else None
        yield Trace(example, Recording(part_of(dump, "truth")), plain, deep, partial(_floors, dump))


def _floors(dump: Dump) -> Floors:
    parts = dict.fromkeys(name.partition("/")[0] for name in dump)
    found = (part for part in parts if part.startswith("floor "))
    return {part.removeprefix("floor "): part_of(dump, part) for part in found}


class Part(dict[str, Array]):
    """Arrays by name; one that is asked for and is not there is the file's fault."""

    def __init__(self, dump: Dump, part: str) -> None:
        names = (name for name in dump if name.startswith(f"{part}/"))
        super().__init__({name.removeprefix(f"{part}/"): dump[name] for name in names})
        self._where, self._part = dump.path, part

    def __missing__(self, name: str) -> Array:
        raise GoldenError(f"{self._where} lacks {f'{self._part}/{name}'!r}: save it anew")


def part_of(dump: Dump, part: str) -> dict[str, Array]:
    return Part(dump, part)
