"""A whole diarization pipeline: what its config.yaml names, and what a bundle keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from samevoice import plain_yaml
from samevoice.converters.bundle import understood
from samevoice.converters.reading import sources
from samevoice.converters.reading.sources import Source
from samevoice.errors import ConversionError
from samevoice.files import read_text

CONFIG_YAML = "config.yaml"
PARTS = ("segmentation", "embedding", "plda")
_PIPELINES = (
    "pyannote.audio.pipelines.SpeakerDiarization",
    "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
)
_CLUSTERING = "VBxClustering"
# What pyannote's config.yaml may hold; more would change the pipeline in ways not converted.
_KEYS = {"version", "dependencies", "pipeline", "params"}
_PARAMS = {
    *PARTS,
    "clustering",
    "segmentation_batch_size",
    "segmentation_step",
    "embedding_batch_size",
    "embedding_exclude_overlap",
    "legacy",
}


@dataclass(frozen=True)
class Settings:
    """The pipeline's own parameters, with pyannote's defaults where config.yaml is silent."""

    threshold: float = 0.6
    Fa: float = 0.07
    Fb: float = 0.8
    min_duration_off: float = 0.0
    embedding_exclude_overlap: bool = False
    segmentation_step: float = 0.1
    clustering: str = _CLUSTERING
    references: Mapping[str, Any] = field(default_factory=dict)  # part -> where it lies

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        del found["references"]
        return found


def is_pipeline(source: Source) -> bool:
    return len(source.files) == 1 and source.files[0].endswith((".yaml", ".yml"))


def read(source: Source) -> Settings:
    """The settings of a SpeakerDiarization with VBx clustering; anything else is refused."""
    path = source.root / source.files[0]
    where = f"{path.name} of {source.name}"
    with understood(f"{where} is no pipeline config: it", ConversionError):
        return _settings(read_text(path, ConversionError), where)


def parameters(text: str, where: str) -> dict[str, Any]:
    """The parameters that a bundle of this config.yaml must hold."""
    with understood(f"{where} is no pipeline config: it", ConversionError):
        return _settings(text, where).as_dict()


def check(text: str, where: str) -> None:
    """Refuse a config.yaml that would have pyannote do anything but build this pipeline.

    pyannote builds whatever class the file names. One that lies in a bundle may be anybody's.
    """
    with understood(f"{where} is no pipeline config: it", ConversionError):
        found = _settings(text, where)
        if found.references != {part: f"$model/{part}" for part in PARTS}:
            raise ConversionError(f"{where} names parts that lie outside of it")


def _settings(text: str, where: str) -> Settings:
    try:
        config = plain_yaml.load(text)
    except plain_yaml.PlainYamlError as error:
        raise ConversionError(f"{where} is no readable YAML ({error})") from error
    block = config["pipeline"]
    params, tuned = block.get("params") or {}, config.get("params") or {}
    if block["name"] not in _PIPELINES:
        raise ConversionError(
            f"pipeline {block['name']!r} is not supported; supported: {_PIPELINES[0]}"
        )
    strangers = sorted({*map(str, config)} - _KEYS) + sorted({*map(str, params)} - _PARAMS)
    if strangers:
        raise ConversionError(f"{where} asks for {strangers[0]!r}, which is not supported")
    clustering = params.get("clustering", _CLUSTERING)
    if clustering != _CLUSTERING:
        raise ConversionError(
            f"clustering {clustering!r} is not supported; supported: {_CLUSTERING}. "
            "The networks can be converted on their own: pass their ids or files as SOURCE"
        )
    return Settings(
        **_numbers(tuned.get("clustering"), where, "threshold", "Fa", "Fb"),
        **_numbers(tuned.get("segmentation"), where, "min_duration_off"),
        **_numbers(params, where, "segmentation_step"),
        embedding_exclude_overlap=params.get("embedding_exclude_overlap", False) is True,
        references={part: _reference(params, part) for part in PARTS},
    )


def _numbers(given: Any, where: str, *names: str) -> dict[str, Any]:
    given = given if isinstance(given, Mapping) else {}
    for name in names:
        value = given.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ConversionError(f"{where} says {name}: {value!r}, which is no number")
    return {name: given[name] for name in names if name in given}


def _reference(params: Mapping[str, Any], part: str) -> Any:
    if part not in params:
        raise ConversionError(
            f"config.yaml names no {part}: a whole pipeline needs {', '.join(PARTS)}"
        )
    return params[part]


def locate_parts(source: Source, settings: Settings) -> dict[str, Source]:
    """Where each part lies: a subfolder (``$model/...``), or a repository or path of its own."""
    return {part: _locate(source, part, where) for part, where in settings.references.items()}


def _locate(source: Source, part: str, where: Any) -> Source:
    if isinstance(where, Mapping) and isinstance(where.get("checkpoint"), str):
        revision, subfolder = where.get("revision"), where.get("subfolder")
        return sources.locate(where["checkpoint"], revision=revision, subfolder=subfolder)
    if not isinstance(where, str):
        raise ConversionError(f"config.yaml says {where!r} for {part}: neither a path nor an id")
    if not where.startswith("$model/"):
        return sources.locate(where)
    inside = where.removeprefix("$model/")
    if ".." in Path(inside).parts or Path(inside).is_absolute():
        raise ConversionError(
            f"config.yaml says {where!r} for {part}: that lies outside the pipeline"
        )
    if source.kind == "hub":
        return sources.locate(source.name, revision=source.revision, subfolder=inside)
    # What lies in the pipeline's folder comes under its terms; a reference's folder has no card.
    return replace(sources.locate(source.root, subfolder=inside), licence=source.licence)


def bundled_yaml(text: str) -> str:
    """config.yaml for the way back: as it was, but with every part beside it."""
    config = plain_yaml.load(text)
    params = config["pipeline"]["params"]
    wanted = {part: f"$model/{part}" for part in PARTS}
    if all(params[part] == where for part, where in wanted.items()):
        return text
    params.update(wanted)
    rewritten: str = yaml.safe_dump(config, sort_keys=False)
    return rewritten
