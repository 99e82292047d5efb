"""From a source to a bundle: locate, read, plan, then write. Nothing is written before all fits."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import samevoice
from samevoice.converters import bundle, card, packing, pipeline, recognise, rules
from samevoice.converters import recipe as recipes
from samevoice.converters.reading import checkpoint, safetensors_file, sources
from samevoice.converters.reading.safetensors_file import Slot
from samevoice.converters.reading.sources import Source
from samevoice.converters.recipe import Recipe, Storage
from samevoice.converters.rules import Plan, Row
from samevoice.converters.transforms import Array, cast
from samevoice.errors import CheckpointError, ConversionError, nearest
from samevoice.family import LISTED, Family, architectures, roles
from samevoice.files import read_text
from samevoice.models.diarization.settings import threshold_fault

AUTO, WHOLE = "auto", "full"
Progress = Callable[[str, int, int], None]  # what is written, bytes done, bytes in all


@dataclass(frozen=True)
class Options:
    """How the values are written; dtype and bits say of all parts what a recipe says of layers."""

    dtype: str = "float32"
    q_bits: int | None = None  # None: not quantised
    q_group_size: int = 64
    max_shard_size: str = "5GB"
    recipe: Mapping[str, Any] | None = None  # its tables, in place of the first three

    def __post_init__(self) -> None:
        if self.q_bits not in (None, 4, 6, 8):
            raise ConversionError(f"{self.q_bits} bits are not supported: 4, 6 or 8")
        if self.recipe is not None and (self.dtype != "float32" or self.q_bits):
            raise ConversionError("a recipe names every type: leave out dtype and bits")
        if self.recipe is None:
            self.recipe_of("")
        bundle.parse_size(self.max_shard_size)

    def recipe_of(self, part: str) -> Recipe:
        """Of a pipeline's part, or with "" of what is no part."""
        if self.recipe is not None:
            return Recipe.of(self.recipe.get(part, {}) if part else self.recipe)
        return Recipe(self.dtype, linear=str(self.q_bits or ""), group_size=self.q_group_size)


@dataclass(frozen=True)
class Part:
    """One checkpoint laid over its table: a bundle of its own, or a folder of a pipeline's."""

    folder: str  # "" or "segmentation", "embedding", "plda"
    source: Source
    family: Family
    checkpoint: checkpoint.Checkpoint
    naming: recognise.Naming
    config: Mapping[str, Any]
    plan: Plan
    options: Options
    recipe: Recipe

    @cached_property
    def storage(self) -> Storage:
        """How each matrix of a network is stored; data stay as they are."""
        found = {} if self.family.is_data else recipes.matrices(self.plan.shapes, self.exact)
        asks = self.recipe.linear or self.recipe.layers or self.recipe.default
        linear = recognise.linear(self.config) if asks and found else ()
        return Storage(self.recipe, found, linear)

    @cached_property
    def exact(self) -> Mapping[str, str]:
        """Targets that keep their source's dtype, with it."""
        return {
            target: self._exact_dtype(self.plan.sources[move.sources[0]].dtype)
            for move in self.plan.moves
            if move.rule.exact
            for target in move.targets
        }

    def _exact_dtype(self, dtype: str) -> str:
        """As in the source; but MLX reads no float64, so a network's goes down to float32."""
        wide = dtype == "float64" and not self.family.is_data
        return "float32" if wide else dtype

    def dtype_of(self, target: str) -> str:
        one = self.storage.of(target)
        return f"{one.bits}-bit" if one.bits else self.exact.get(target, one.type)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(
            slot
            for move in self.plan.moves
            for target in move.targets
            for slot in self._slots_of(target)
        )

    def _slots_of(self, target: str) -> tuple[Slot, ...]:
        shape = self.plan.shapes[target]
        if target in self.exact:
            return (Slot(target, shape, self.exact[target]),)
        return self.storage.slots(target, shape)

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Every array of the bundle, in the slots' order, one source tensor in memory at a time."""
        for name, array in rules.convert(self.plan):
            rounded = self._cast(name, array)
            yield from packing.packed(name, rounded, self.storage.of(name))
            del array, rounded  # before the next one is read

    def _cast(self, name: str, array: Array) -> Array:
        one = self.storage.of(name)
        dtype = self.exact.get(name, self.recipe.dtype if one.bits else one.type)
        rounded = cast(array, dtype)
        if np.isfinite(rounded).all():
            return rounded
        finite = np.isfinite(array)
        if finite.all():
            raise ConversionError(
                f"{name!r} reaches {np.abs(array).max():.3g}, beyond {dtype}: use a wider --dtype"
            )
        raise ConversionError(
            f"{name!r} holds {np.count_nonzero(~finite)} values that are NaN or infinite in the "
            "source: no network can use them"
        )

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.plan.shapes.values())

    @property
    def nbytes(self) -> int:
        return sum(slot.nbytes for slot in self.slots)

    @property
    def rows(self) -> tuple[Row, ...]:
        return rules.tally(self.plan, self.dtype_of)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader must know: said on the terminal, in the card and in the provenance."""
        said = [
            f"the checkpoint does not say, assumed: {text}"
            for text in self.config.get("assumed", ())
        ]
        if self.checkpoint.lost:
            names = ", ".join(self.checkpoint.lost)
            said.append(f"left out, and not kept for the way back: {names}")
        if not self.family.is_data:
            said += self.storage.notes({x: prod(shape) for x, shape in self.plan.shapes.items()})
        return tuple(said)

    @cached_property
    def source_hashes(self) -> dict[str, str]:
        return hashes_of(self.source)


@dataclass(frozen=True)
class Conversion:
    """What a conversion made, or with ``dry_run`` would make."""

    model_type: str
    path: Path | None
    parts: tuple[Part, ...]
    note: str = ""  # the mark of reference weights
    pipeline: Source | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # the pipeline's own parameters

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for part in self.parts for row in part.rows)


def convert(
    source: str | Path,
    mlx_path: str | Path = "mlx_model",
    *,
    model_type: str = "auto",
    dtype: str = "float32",
    q_bits: int | None = None,
    q_group_size: int = 64,
    recipe: str | Path | None = None,
    revision: str | None = None,
    max_shard_size: str = "5GB",
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a PyTorch checkpoint to an MLX bundle.

    ``source`` is a hub id, a folder, a checkpoint file, ``open:...``, ``wheel:...`` or
    ``reference:...``; ``q_bits`` (4, 6 or 8) quantises the linear layers; ``recipe`` is a TOML file
    with a type for each layer. Raises a ``SamevoiceError`` that says what to do, and then has
    written nothing.
    """
    tables = None if recipe is None else recipes.read(recipe)
    options = Options(dtype, q_bits, q_group_size, max_shard_size, tables)
    target = Path(mlx_path)
    if not dry_run:  # before anything is downloaded or read
        bundle.refuse_existing(target, overwrite=overwrite)
    planned = prepare(source, model_type=model_type, options=options, revision=revision)
    if dry_run:
        return planned
    _refuse_own_source(planned, target)
    with bundle.written_aside(target, overwrite=overwrite) as aside:
        _write(aside, planned, progress or (lambda what, done, total: None))
    return replace(planned, path=target)


def _refuse_own_source(planned: Conversion, target: Path) -> None:
    """Overwriting the folder that is being read would leave neither."""
    roots = [part.source.root for part in planned.parts]
    roots += [planned.pipeline.root] if planned.pipeline else []
    for root in roots:
        if root.resolve().is_relative_to(target.resolve()):
            raise ConversionError(f"{target} holds the source itself: choose another --mlx-path")


def prepare(
    source: str | Path, *, model_type: str, options: Options, revision: str | None = None
) -> Conversion:
    """Everything but the writing: what would be made of this source, checked to the last tensor."""
    known = (AUTO, WHOLE, *roles())
    if model_type not in (*known, *architectures()):
        raise ConversionError(
            f"model type {model_type!r} is not one of {', '.join(known)}, and no architecture: "
            + nearest(model_type, (*known, *architectures()), LISTED)
        )
    found = sources.locate(source, revision=revision)
    if pipeline.is_pipeline(found):
        if model_type not in (AUTO, WHOLE):
            raise ConversionError(
                f"{found.name} is a whole pipeline: --model-type {model_type} does not fit it; "
                f"convert its {model_type} folder alone, or leave --model-type out"
            )
        if detects := pipeline.detection(found):
            return _detection(found, detects, options)
        settings = pipeline.read(found)
        located = pipeline.locate_parts(found, settings)
        recipes.refuse_other_parts(options.recipe or {}, located)
        parts = tuple(_part(folder, part, folder, options) for folder, part in located.items())
        segmentation = {part.folder: part for part in parts}["segmentation"]
        if wrong := threshold_fault(segmentation.config, settings.parameters):
            raise ConversionError(f"{found.files[0]} of {found.name} {wrong}")
        return Conversion(WHOLE, None, parts, _note(parts), found, settings.parameters)
    if model_type == WHOLE:
        raise ConversionError(f"{found.name} is no pipeline: it has no config.yaml that names one")
    part = _part("", found, model_type, options)
    return Conversion(part.family.role, None, (part,), _note((part,)))


def _detection(found: Source, settings: pipeline.Settings, options: Options) -> Conversion:
    """Its segmentation's network, which knows the pipeline's thresholds from then on."""
    ((role, source),) = pipeline.locate_parts(found, settings).items()
    part = _part("", source, role, options)
    config = {**part.config, "detection": settings.parameters}
    return Conversion(role, None, (replace(part, config=config),), _note((part,)))


def _part(folder: str, source: Source, model_type: str, options: Options) -> Part:
    try:
        loaded = checkpoint.read(source.root, source.files)
        family = recognise.recognise(loaded, model_type)
        loaded, naming = recognise.unwrap(loaded, family)
        with bundle.understood("what is saved beside the tensors", ConversionError):
            config = family.config(loaded.tensors, loaded.metadata)
            table = family.table(config)
        plan = rules.plan(table, loaded.tensors, recognise.shapes(family, config))
        chosen = options.recipe_of(folder)
        if family.is_data and folder in (options.recipe or {}):
            raise ConversionError("a PLDA is copied as it is: leave it out of the recipe")
        made = Part(folder, source, family, loaded, naming, config, plan, options, chosen)
        _ = made.storage.stored  # which refuses layers that are not there
    except (ConversionError, CheckpointError) as error:
        # Of a pipeline, say which part.
        raise type(error)(f"{folder}: {error}" if folder else str(error)) from error
    _refuse_unwritable(plan)
    return made


def _refuse_unwritable(plan: Plan) -> None:
    """What is kept for the way back must be of a type that the file can hold."""
    for name in plan.kept:
        if plan.sources[name].dtype not in safetensors_file.DTYPES:
            raise ConversionError(f"{name!r} is {plan.sources[name].dtype}, which cannot be kept")


def _note(parts: tuple[Part, ...]) -> str:
    """A pipeline with reference weights anywhere in it is a reference pipeline."""
    return next((note for part in parts if (note := part.checkpoint.metadata.get("note"))), "")


def _write(aside: Path, planned: Conversion, progress: Progress) -> None:
    total = sum(part.nbytes for part in planned.parts)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        progress(planned.model_type, done, total)

    for part in planned.parts:
        folder = aside / part.folder
        folder.mkdir(exist_ok=True)
        _write_part(folder, part, planned.note, advance)
    if planned.pipeline is not None:
        _write_pipeline(aside, planned, planned.pipeline)


def _write_pipeline(folder: Path, planned: Conversion, source: Source) -> None:
    """The one config over the three parts, and the config.yaml that the way back starts from."""
    config = {
        "model_type": "full",
        "architecture": "SpeakerDiarization",
        "components": sorted(part.folder for part in planned.parts),
        "pipeline": planned.settings,
        "dtype": ", ".join(
            dict.fromkeys(x.recipe.dtype for x in planned.parts if not x.family.is_data)
        ),
    }
    bundle.write_json(
        folder / bundle.CONFIG, config | ({"note": planned.note} if planned.note else {})
    )
    yaml = pipeline.bundled_yaml(read_text(source.root / source.files[0], ConversionError))
    (folder / bundle.ORIGIN).mkdir()
    (folder / bundle.ORIGIN / pipeline.CONFIG_YAML).write_text(yaml, encoding="utf-8")
    _finish(folder, planned)


def _write_part(folder: Path, part: Part, note: str, advance: Callable[[int], None]) -> None:
    metadata = {
        "format": "mlx",
        "model_type": part.family.role,
        "source_sha256": fingerprint(part.source_hashes),
    }
    if note:
        metadata["note"] = note
    shards = bundle.shard(part.slots, bundle.parse_size(part.options.max_shard_size))
    bundle.write_shards(
        folder, shards, part.arrays(), metadata, advance, parameters=part.parameters
    )
    _write_origin(folder, part)
    bundle.write_json(folder / bundle.CONFIG, config_of(part, note))
    _finish(folder, Conversion(part.family.role, None, (part,), note))


def config_of(part: Part, note: str) -> dict[str, Any]:
    """All that the MLX model needs to be built, in the keys that MLX tools look for."""
    config = {name: value for name, value in part.config.items() if name != "assumed"}
    config |= {"dtype": "float64"} if part.family.is_data else part.storage.config()
    if note:
        config["note"] = note
    return config


def _write_origin(folder: Path, part: Part) -> None:
    """What only the way back to torch needs: the values that a rule could not carry, the names."""
    slots = tuple(
        Slot(name, part.plan.sources[name].shape, part.plan.sources[name].dtype)
        for name in part.plan.kept
    )
    if slots:
        arrays = ((slot.name, part.plan.sources[slot.name].load()) for slot in slots)
        (folder / bundle.ORIGIN).mkdir()
        bundle.write_file(folder / bundle.KEPT, slots, arrays, {"format": "pt"})
    loaded = part.checkpoint
    notes = {
        "format": loaded.format,
        "container": loaded.container,
        "entries": loaded.entries,
        "beside": loaded.beside,
        "strip": part.naming.strip,
        "add": part.naming.add,
        "names": part.naming.originals,
        "dtypes": {name: tensor.dtype for name, tensor in part.plan.sources.items()},
    }
    bundle.write_json(folder / bundle.ORIGIN_NOTES, notes, sort=False)


def _finish(folder: Path, made: Conversion) -> None:
    """The card, then the provenance, which holds the hash of everything else."""
    (folder / bundle.CARD).write_text(card.render(made), encoding="utf-8")
    whole = made.pipeline is not None
    provenance = {
        "schema": 1,
        "tool": {"name": "samevoice", "version": samevoice.__version__},
        "versions": versions(),
        "model_type": made.model_type,
        "options": asdict(made.parts[0].options),
        "sources": _sources(made),
        "rules_sha256": {part.family.role: part.plan.digest() for part in made.parts},
        "note": made.note,
        "notes": [note for part in made.parts for note in part.notes],
        "outputs": bundle.file_hashes(folder),
        # A pipeline's parts carry their own tallies.
        "tensors": [] if whole else [asdict(row) for row in made.rows],
    }
    bundle.write_json(folder / bundle.PROVENANCE, provenance)


def _sources(made: Conversion) -> dict[str, Any]:
    """Where each part came from, to the hash of every file that was read."""
    found = {part.family.role: (part.source, part.source_hashes) for part in made.parts}
    if made.pipeline is not None:
        found["full"] = (made.pipeline, hashes_of(made.pipeline))
    return {
        name: {
            "kind": source.kind,
            "name": source.name,
            "revision": source.revision,
            "subfolder": source.subfolder,
            "licence": source.licence.as_dict() if source.licence else None,
            "files": hashes,
            "sha256": fingerprint(hashes),
        }
        for name, (source, hashes) in found.items()
    }


def hashes_of(source: Source) -> dict[str, str]:
    return {name: bundle.sha256(source.root / name) for name in source.files}


def fingerprint(hashes: Mapping[str, str]) -> str:
    """One hash for a set of files: that of the single file, else of the list of them all."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def versions() -> dict[str, str]:
    """The libraries that can change a byte of the result, as installed."""
    found = {"python": platform.python_version()}
    for name in ("numpy", "ml_dtypes", "mlx", "safetensors", "torch", "pyannote.audio"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
