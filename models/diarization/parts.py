"""What a pipeline's bundle holds: its config and its two networks, checked before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samevoice.errors import BundleError
from samevoice.models import recorded, registry
from samevoice.models.diarization import powerset
from samevoice.models.diarization.settings import algorithm, detection_fault, fault
from samevoice.models.network import Embeds, Network


def config(folder: Path) -> Mapping[str, Any]:
    config = registry.read_json(folder / "config.json")
    if "components" not in config:
        said: Any = config.get("detection")
        other = "" if detection_fault(said) else f", or pass --task {said['task']}"
        raise BundleError(
            f"{folder} holds a {config.get('model_type')}, not a whole pipeline: convert one with "
            f"samevoice convert pyannote/speaker-diarization-community-1{other}"
        )
    if wrong := fault(config.get("pipeline")):
        raise BundleError(f"{folder / 'config.json'} {wrong}")
    parts = algorithm(config["pipeline"]).parts
    # What each part holds, its own provenance says.
    recorded.check(folder, ["config.json", *(f"{part}/provenance.json" for part in parts)])
    return config


def classes(folder: Path, config: Mapping[str, Any]) -> tuple[int, int]:
    """How many speakers a chunk has room for, and how many of them at once."""
    said = config.get("specifications")
    said = said if isinstance(said, dict) else {}
    classes, largest, duration = (
        said.get(name) for name in ("classes", "powerset_max_classes", "duration")
    )
    if not isinstance(classes, list) or type(largest) is not int or largest < 1:
        raise BundleError(f"{folder}: its specifications name no powerset classes to decode")
    _refuse_odd_duration(folder, duration)
    if powerset.size(len(classes), largest, config["num_classes"]) != config["num_classes"]:
        raise BundleError(
            f"{folder}: its specifications do not ask for the {config['num_classes']} classes that "
            "it has"
        )
    return len(classes), largest


def independent(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether each label has a score of its own, as in networks older than powerset classes."""
    if config.get("activation") != "sigmoid":
        return False
    said = config.get("specifications")
    _refuse_odd_duration(folder, said.get("duration") if isinstance(said, dict) else None)
    return True


def _refuse_odd_duration(folder: Path, duration: object) -> None:
    if not isinstance(duration, int | float) or not 0 < duration <= 3600:
        raise BundleError(f"{folder}: its specifications name no duration in seconds")


def segmentation(folder: Path) -> Network:
    network = registry.load(folder)
    if isinstance(network, Embeds) or "num_classes" not in network.config:
        raise BundleError(f"{folder} holds a {type(network).__name__}, which is no segmentation")
    return network


def embedding(folder: Path, beside: Network) -> Network:
    network = registry.load(folder)
    if not isinstance(network, Embeds):
        raise BundleError(f"{folder} holds a {type(network).__name__}, which embeds no speakers")
    rates = [one.config.get("sample_rate", 16000) for one in (network, beside)]
    if rates[0] != rates[1]:
        raise BundleError(
            f"{folder} hears {rates[0]} samples a second, its segmentation {rates[1]}: a pipeline "
            "needs both at one rate"
        )
    return network
