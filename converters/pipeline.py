"""A whole diarization pipeline: what its config.yaml names, and what a bundle keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from samevoice.converters import sources
from samevoice.converters.sources import Source
from samevoice.errors import ConversionError

CONFIG_YAML = "config.yaml"
PARTS = ("segmentation", "embedding", "plda")
_PIPELINES = (
    "pyannote.audio.pipelines.SpeakerDiarization",
    "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
)
_CLUSTERING = "VBxClustering"


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
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        block = config["pipeline"]
        named, params = block["name"], block.get("params") or {}
        tuned = config.get("params") or {}
    except (
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise ConversionError(
            f"{path.name} of {source.name} is no pipeline config: {error}"
        ) from error
    if named not in _PIPELINES:
        raise ConversionError(f"pipeline {named!r} is not supported; supported: {_PIPELINES[0]}")
    clustering = params.get("clustering", _CLUSTERING)
    if clustering != _CLUSTERING:
        raise ConversionError(
            f"clustering {clustering!r} is not supported; supported: {_CLUSTERING}. "
            "The networks can be converted on their own: pass their ids or files as SOURCE"
        )
    return Settings(
        **_known(tuned.get("clustering"), "threshold", "Fa", "Fb"),
        **_known(tuned.get("segmentation"), "min_duration_off"),
        **_known(params, "embedding_exclude_overlap", "segmentation_step"),
        references={part: _reference(params, part) for part in PARTS},
    )


def _known(given: Any, *names: str) -> dict[str, Any]:
    given = given if isinstance(given, Mapping) else {}
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
    return sources.locate(source.root, subfolder=inside)


def bundled_yaml(text: str) -> str:
    """config.yaml for the way back: as it was, but with every part beside it."""
    config = yaml.safe_load(text)
    params = config["pipeline"]["params"]
    wanted = {part: f"$model/{part}" for part in PARTS}
    if all(params[part] == where for part, where in wanted.items()):
        return text
    params.update(wanted)
    rewritten: str = yaml.safe_dump(config, sort_keys=False)
    return rewritten
