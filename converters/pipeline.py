"""pyannote's pipelines: what a config.yaml names, and what a bundle keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from samevoice import plain_yaml
from samevoice.converters.bundle import understood
from samevoice.converters.reading import sources
from samevoice.converters.reading.sources import Source
from samevoice.errors import ConversionError, SourceError
from samevoice.files import read_text
from samevoice.models.diarization.settings import (
    AGGLOMERATIVE,
    CENTROID,
    CLUSTERINGS,
    LABELS,
    NUMBERS,
    OVERLAP,
    THRESHOLDS,
    TOGETHER,
    VBX,
    detection_fault,
    fault,
)

CONFIG_YAML = "config.yaml"
# What pyannote's config.yaml may hold; more would change the pipeline in ways not converted.
_KEYS = {"version", "dependencies", "pipeline", "params"}
_PARTS = CLUSTERINGS[VBX].parts  # all that there are
_PARAMS = {
    "segmentation",
    "embedding",
    "clustering",
    TOGETHER,
    "segmentation_step",
    "embedding_batch_size",
    "der_variant",  # how pyannote scores while it tunes
    OVERLAP,
}


@dataclass(frozen=True)
class _Kind:
    """A class of pipelines: what it may be built with, and what it is where config.yaml is silent.

    ``tuned`` are its clustering's numbers, which count where config.yaml has no ``params`` at all.
    """

    params: frozenset[str]
    built: Mapping[str, Any]
    tuned: Mapping[str, Any]


_PYANNOTE = _Kind(frozenset({*_PARAMS, "plda", "legacy"}), {"clustering": VBX, OVERLAP: False}, {})
_SUPLIME = _Kind(
    frozenset(_PARAMS),
    {
        "clustering": AGGLOMERATIVE,
        OVERLAP: True,
        TOGETHER: 32,
        "segmentation": {"checkpoint": "rewayai/suplime", "subfolder": "segmentation"},
        "embedding": {"checkpoint": "rewayai/suplime", "subfolder": "embedding"},
    },
    {"method": CENTROID, "min_cluster_size": 12, "threshold": 0.72},
)
_PIPELINES: Mapping[str, _Kind] = {
    "pyannote.audio.pipelines.SpeakerDiarization": _PYANNOTE,
    "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization": _PYANNOTE,
    "suplime.SuplimeDiarization": _SUPLIME,
    "suplime.pipeline.SuplimeDiarization": _SUPLIME,
}

# Pipelines of one segmentation, and what ``diarize --task`` calls them.
_DETECTIONS = {
    "pyannote.audio.pipelines.VoiceActivityDetection": "voice-activity",
    "pyannote.audio.pipelines.voice_activity_detection.VoiceActivityDetection": "voice-activity",
    "pyannote.audio.pipelines.OverlappedSpeechDetection": "overlap",
    "pyannote.audio.pipelines.overlapped_speech_detection.OverlappedSpeechDetection": "overlap",
}
# What those pipelines may be built with: of the rest, pyannote needs it only while it tunes.
_DETECTING = {"segmentation", "batch_size", "fscore", "precision", "recall"}


@dataclass(frozen=True)
class Settings:
    """The pipeline's own parameters, with pyannote's defaults where config.yaml is silent."""

    parameters: Mapping[str, Any]
    parts: Mapping[str, Any]  # part -> where it lies, as config.yaml says it


def is_pipeline(source: Source) -> bool:
    return len(source.files) == 1 and source.files[0].endswith((".yaml", ".yml"))


def read(source: Source) -> Settings:
    """The settings of a SpeakerDiarization with a known clustering; anything else is refused."""
    path = source.root / source.files[0]
    where = f"{path.name} of {source.name}"
    with understood(f"{where} is no pipeline config: it", ConversionError):
        return _settings(read_text(path, ConversionError), where)


def detection(source: Source) -> Settings | None:
    """Those of a pipeline that finds speech or overlap, its task among them; None of another."""
    path = source.root / source.files[0]
    where = f"{path.name} of {source.name}"
    with understood(f"{where} is no pipeline config: it", ConversionError):
        config = _loaded(read_text(path, ConversionError), where)
        task = _DETECTIONS.get(config["pipeline"]["name"])
        if task is None:
            return None
        params, tuned = config["pipeline"]["params"], config["params"]
        _refuse_strangers(where, (config, _KEYS), (params, _DETECTING), (tuned, {*THRESHOLDS}))
        found = {"task": task, **tuned}
        if wrong := detection_fault(found):
            raise ConversionError(f"{where}: {wrong}")
        return Settings(found, {"segmentation": params["segmentation"]})


def parameters(text: str, where: str) -> Mapping[str, Any]:
    """The parameters that a bundle of this config.yaml must hold."""
    with understood(f"{where} is no pipeline config: it", ConversionError):
        return _settings(text, where).parameters


def checked_parts(text: str, where: str) -> tuple[str, ...]:
    """The parts of a config.yaml that lies in a bundle.

    pyannote builds whatever class the file names, and it may be anybody's: refuse one that would
    have it do anything but build this pipeline.
    """
    with understood(f"{where} is no pipeline config: it", ConversionError):
        parts = _settings(text, where).parts
        if parts != {part: f"$model/{part}" for part in parts}:
            raise ConversionError(f"{where} names parts that lie outside of it")
        return tuple(parts)


def _loaded(text: str, where: str) -> Any:
    try:
        return plain_yaml.load(text)
    except plain_yaml.PlainYamlError as error:
        raise ConversionError(f"{where} is no readable YAML ({error})") from error


def _refuse_strangers(where: str, *pairs: tuple[Mapping[Any, Any], AbstractSet[str]]) -> None:
    """Keys that are not known: the pipeline would do what is not converted."""
    for given, known in pairs:
        if strangers := sorted({*map(str, given)} - known):
            raise ConversionError(f"{where} asks for {strangers[0]!r}, which is not supported")


def _settings(text: str, where: str) -> Settings:
    config = _loaded(text, where)
    block = config["pipeline"]
    kind = _PIPELINES.get(block["name"])
    if kind is None:
        raise ConversionError(
            f"pipeline {block['name']!r} is not supported; supported: "
            "pyannote.audio.pipelines.SpeakerDiarization, VoiceActivityDetection and "
            "OverlappedSpeechDetection, and suplime.SuplimeDiarization"
        )
    _refuse_strangers(where, (config, _KEYS), (block.get("params") or {}, kind.params))
    params = {**kind.built, **(block.get("params") or {})}
    tuned = config.get("params") or {"clustering": kind.tuned}
    clustering = params["clustering"]
    said = {**params, **(tuned.get("segmentation") or {}), **(tuned.get("clustering") or {})}
    known = CLUSTERINGS.get(clustering) if isinstance(clustering, str) else None
    wanted = {**(known.settings if known else {}), **NUMBERS}
    found = {
        **{name: said.get(name, default) for name, default in wanted.items()},
        OVERLAP: params[OVERLAP] is True,
        "clustering": clustering,
    }
    if TOGETHER in kind.built:
        found[TOGETHER] = params[TOGETHER]
    if (threshold := (tuned.get("segmentation") or {}).get("threshold")) is not None:
        found[LABELS] = threshold
    if wrong := fault(found):
        raise ConversionError(
            f"{where} {wrong}. The networks can be converted on their own: pass their ids or files "
            "as SOURCE"
        )
    needed = CLUSTERINGS[clustering].parts
    lacking = [part for part in needed if part not in params]
    if lacking:
        raise ConversionError(
            f"config.yaml names no {lacking[0]}: a pipeline with {clustering} needs "
            f"{', '.join(needed)}"
        )
    return Settings(found, {part: params[part] for part in _PARTS if part in params})


def locate_parts(source: Source, settings: Settings) -> dict[str, Source]:
    """Where each part lies: a subfolder (``$model/...``), or a repository or path of its own."""
    return {part: _locate(source, part, where) for part, where in settings.parts.items()}


def _locate(source: Source, part: str, where: Any) -> Source:
    """A revision stands behind an id's ``@``, or beside the id where a mapping says both."""
    inner = None
    if isinstance(where, Mapping) and isinstance(where.get("checkpoint"), str):
        word, revision, inner = where["checkpoint"], where.get("revision"), where.get("subfolder")
    elif isinstance(where, str):
        word, _, revision = where.partition("@") if not Path(where).exists() else (where, "", "")
    else:
        raise ConversionError(f"config.yaml says {where!r} for {part}: neither a path nor an id")
    if not word.startswith("$model/"):
        try:
            return sources.locate(word, revision=revision or None, subfolder=inner)
        except SourceError as error:
            raise type(error)(f"{part}: {error}") from error
    inside = word.removeprefix("$model/")
    if ".." in Path(inside).parts or Path(inside).is_absolute():
        raise ConversionError(
            f"config.yaml says {where!r} for {part}: that lies outside the pipeline"
        )
    if source.kind == "hub":
        return sources.locate(source.name, revision=revision or source.revision, subfolder=inside)
    # What lies in the pipeline's folder comes under its terms; a reference's folder has no card.
    found = sources.locate(source.root, revision=revision or None, subfolder=inside)
    return replace(found, licence=source.licence)


def bundled_yaml(text: str) -> str:
    """config.yaml for the way back: as it was, but with every part beside it."""
    config = plain_yaml.load(text)
    params = config["pipeline"].get("params") or {}
    wanted = {part: f"$model/{part}" for part in _settings(text, CONFIG_YAML).parts}
    if all(params.get(part) == where for part, where in wanted.items()):
        return text
    config["pipeline"]["params"] = params | wanted
    rewritten: str = yaml.safe_dump(config, sort_keys=False)
    return rewritten


def renumbered(text: str, numbers: Mapping[str, Any]) -> str:
    """A config.yaml with other numbers: the pipeline's own, and its clustering's."""
    config = plain_yaml.load(text)
    params = config["params"] = config.get("params") or {}
    clustering = params["clustering"] = params.get("clustering") or {}
    for name, value in numbers.items():
        (config["pipeline"]["params"] if name in NUMBERS else clustering)[name] = value
    rewritten: str = yaml.safe_dump(config, sort_keys=False)
    return rewritten
