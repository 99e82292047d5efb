"""What a pipeline's clusterings are called, which parts they need, and their numbers.

Facts alone, so that converting and running read the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

OVERLAP = "embedding_exclude_overlap"
# Above it somebody speaks, where each speaker has a score of its own (not in powerset classes).
LABELS = "segmentation_threshold"
# How many chunks pyannote segments at once: this counts where a network levels them together.
TOGETHER = "segmentation_batch_size"
MOST_TOGETHER = 1024
# How agglomerative clustering measures the distance between two clusters.
CENTROID = "centroid"
METHODS = ("average", CENTROID, "complete", "median", "single", "ward", "weighted")
# The pipeline's own numbers, with pyannote's defaults.
NUMBERS: Mapping[str, float] = {"min_duration_off": 0.0, "segmentation_step": 0.1}
# What is found without speakers.
DETECTED = ("voice-activity", "overlap")
# Those of pyannote's pipelines that find speech or overlap, with its defaults.
THRESHOLDS: Mapping[str, float | None] = {
    "onset": 0.5,
    "offset": None,  # the onset
    "min_duration_on": 0.0,
    "min_duration_off": 0.0,
}


@dataclass(frozen=True)
class Algorithm:
    """One clustering: its settings, with pyannote's defaults or None where it has none."""

    settings: Mapping[str, float | str | None]
    needs_plda: bool = False
    needs_count: bool = False  # the number of speakers must be known beforehand

    @property
    def parts(self) -> tuple[str, ...]:
        """What a pipeline with it is made of."""
        return ("segmentation", "embedding", *(["plda"] if self.needs_plda else []))


VBX, AGGLOMERATIVE, KMEANS = "VBxClustering", "AgglomerativeClustering", "KMeansClustering"
CLUSTERINGS: Mapping[str, Algorithm] = {
    VBX: Algorithm({"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}, needs_plda=True),
    AGGLOMERATIVE: Algorithm({"method": CENTROID, "min_cluster_size": None, "threshold": None}),
    KMEANS: Algorithm({}, needs_count=True),
}


def algorithm(settings: Mapping[str, Any]) -> Algorithm:
    return CLUSTERINGS[settings.get("clustering", VBX)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def fault(settings: Any) -> str:
    """What a pipeline's settings lack or misstate, or nothing."""
    if not isinstance(settings, Mapping):
        return "holds no settings of a pipeline"
    clustering = settings.get("clustering", VBX)
    if not isinstance(clustering, str) or clustering not in CLUSTERINGS:
        known = ", ".join(CLUSTERINGS)
        return f"asks for clustering {clustering!r:.60}, which is not supported; supported: {known}"
    needed = {**CLUSTERINGS[clustering].settings, **NUMBERS}
    if needed.pop("method", None) and (method := settings.get("method")) not in METHODS:
        return f"asks for method {method!r:.60}; supported: {', '.join(METHODS)}"
    for name in needed:
        if not is_number(settings.get(name)):
            return f"gives {name!r} as {settings.get(name)!r:.40}, which is no number"
    size = settings["min_cluster_size"] if "min_cluster_size" in needed else 1
    if size % 1 or size < 1:
        return f"gives 'min_cluster_size' as {size!r:.40}: it must be a whole number from 1 on"
    if not isinstance(settings.get(OVERLAP), bool):
        return f"does not say whether {OVERLAP!r}"
    bound = settings.get(LABELS)
    if bound is not None and not (is_number(bound) and 0 < bound < 1):
        return f"gives {LABELS!r} as {bound!r:.40}: it must lie between 0 and 1"
    size = settings.get(TOGETHER, 1)
    if type(size) is not int or not 1 <= size <= MOST_TOGETHER:
        return (
            f"gives {TOGETHER!r} as {size!r:.40}: it must be a whole number, 1 to {MOST_TOGETHER}"
        )
    return ""


def threshold_fault(segmentation: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Whether the segmentation's scores and the pipeline's threshold do not belong together."""
    needs, bound = segmentation.get("activation") == "sigmoid", settings.get(LABELS)
    if needs and bound is None:
        return "names no threshold for its segmentation, which has a score for each speaker"
    if bound is not None and not needs:
        return "names a threshold for its segmentation, which has powerset classes and needs none"
    return ""


def detection_fault(settings: Any) -> str:
    """What is wrong with the task and the thresholds of a segmentation's bundle, or nothing."""
    if not isinstance(settings, Mapping):
        return "the settings of a detection are not named"
    if settings.get("task") not in DETECTED:
        return f"task {settings.get('task')!r:.40} is not one of {', '.join(DETECTED)}"
    for name, value in settings.items():
        if name in ("onset", "offset") and not (is_number(value) and 0 < value < 1):
            return f"{name} is {value!r:.40}: it must lie between 0 and 1"
        if name in THRESHOLDS and not (is_number(value) and value >= 0):
            return f"{name} is {value!r:.40}: it must be 0 or more seconds"
    if settings.get("offset", 0) > settings.get("onset", 1):
        return "offset must not lie above onset: a region would end where it begins"
    return ""
