"""Golden replay of a whole pipeline: what pyannote's own said on a recording, and who spoke when.

What is saved is what the networks decide by, what was clustered, and what comes out, and not every
stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.parity import golden
from samevoice.parity.bounds import Override
from samevoice.parity.dumps import write_dump
from samevoice.parity.golden import Golden, GoldenError
from samevoice.parity.identity import device_of, dtype_of_pipeline, strict_float32
from samevoice.parity.inputs import RATE
from samevoice.parity.judge import Tap, Verdict, judge_taps
from samevoice.parity.limits import limits_for, precision_of
from samevoice.parity.metrics import Array
from samevoice.parity.pipeline import stages
from samevoice.parity.pipeline.comparison import SCORES
from samevoice.parity.pipeline.original import Spoke, TorchRun, turns_of
from samevoice.parity.pipeline.port import Listening, clustered
from samevoice.parity.task import Decisions, columns, compare_decisions
from samevoice.parity.turns import Errors, Turn, errors

if TYPE_CHECKING:
    from samevoice.models.backend import Choice
    from samevoice.parity.pipeline.comparison import Compared

KINDS = ("turns", "exclusive_turns")
# Of pyannote's clustering, given its own embeddings: here the PLDA and the threshold show.
CLUSTERED = ("trained", "ahc", "xvectors", "plda")


def save(
    folder: Path, compared: Sequence[Compared], source_sha256: str, versions: Mapping[str, str]
) -> None:
    """Of each recording what it was, the scores and the turns; older golden data make way."""
    with golden.written_anew(folder) as aside:
        rows = [_written(aside, k, one) for k, one in enumerate(compared)]
        golden.write_index(aside, rows, "full", source_sha256, versions)


def _written(folder: Path, number: int, one: Compared) -> dict[str, Any]:
    file, example = f"{number:03d}.safetensors", one.recording.example
    sides = {kind: getattr(one.original, kind) for kind in KINDS}
    arrays = {
        "fed/waveforms": example.waveforms,
        f"truth/{SCORES}": one.truth.scores,
        f"plain/{SCORES}": one.original.scores,
        **{f"plain/{kind}": times_of(turns) for kind, turns in sides.items()},
        **{f"clustered/{name}": x for name, x in _clustered(one.original).items()},
    }
    write_dump(folder / file, arrays)
    return {
        "file": file,
        "name": example.name,
        "sha256": example.sha256,
        "labels": {kind: [who for *_, who in turns] for kind, turns in sides.items()},
        # Where rounding decides pyannote's own clustering or its sort, turns prove nothing.
        "settled": one.clusters_on_floor is None and not one.original.tied.any(),
    }


def _clustered(run: TorchRun) -> dict[str, Array]:
    """What pyannote clustered, and what its PLDA made of it; nothing where nobody speaks."""
    if not isinstance(run, Spoke) or run.clusters.steps is None:
        return {}
    seams = stages.of_clusters(run.clusters, run.empty_slots)
    return {
        "embeddings": run.embeddings,
        "segmentations": run.segmentations.astype(np.uint8),
        "phi": np.asarray(run.clusters.steps.phi, dtype=np.float64),
        **{name: seams[name] for name in CLUSTERED},
    }


def times_of(turns: Sequence[Turn]) -> Array:
    """(N, 2) in float64: start and end."""
    return np.array([turn[:2] for turn in turns], dtype=np.float64).reshape(-1, 2)


# Replaying ----------------------------------------------------------------------------------------


class Replayed:
    """One recording: what was said of it, and what the port makes of it here."""

    def __init__(self, said: Golden, row: Mapping[str, Any], pipeline: Listening) -> None:
        dump, example = golden.opened(said, row)
        self.name, self.settled = example.name, bool(row["settled"])
        self.clustered = golden.part_of(dump, "clustered")
        self.stages = _stages_of(pipeline, self.clustered) if self.clustered else {}
        self.truth: Array = golden.part_of(dump, "truth")[SCORES]
        plain = golden.part_of(dump, "plain")
        self.plain: Array = plain[SCORES]
        self.said = {
            kind: [
                (float(start), float(end), str(who))
                for (start, end), who in zip(plain[kind], row["labels"][kind], strict=True)
            ]
            for kind in KINDS
        }
        pipeline.scores.clear()
        found = pipeline(
            {"waveform": example.waveforms[0], "sample_rate": RATE, "uri": example.name}
        )
        self.scores, self.threshold = np.concatenate(pipeline.scores), pipeline.threshold
        both = found.speaker_diarization, found.exclusive_speaker_diarization
        self.got = {kind: turns_of(turns) for kind, turns in zip(KINDS, both, strict=True)}

    @property
    def decisions(self) -> Decisions:
        return compare_decisions(
            self.plain, self.scores, threshold=self.threshold, truth=self.truth
        )

    @property
    def explained(self) -> bool:
        """Whether float32 could not settle who spoke when, so that other turns say nothing."""
        flips = self.decisions.flips
        turned = bool(flips) and all(flip.within_noise for flip in flips)
        return turned or not self.settled

    def errors(self, kind: str) -> Errors:
        return errors(self.said[kind], self.got[kind])


def _stages_of(pipeline: Listening, given: Mapping[str, Array]) -> dict[str, Array]:
    seams = clustered(pipeline, given["segmentations"], given["embeddings"])
    named = {name: seams[name] for name in CLUSTERED if name in seams}
    return {**named, "phi": np.array(pipeline.plda.phi, dtype=np.float64)}


def replay_pipeline(
    folder: Path, said: Golden, *, device: Choice, overrides: Iterable[Override] = ()
) -> Verdict:
    """A pipeline's bundle against what pyannote once said; needs neither torch nor pyannote."""
    from samevoice.converters import bundle as bundles

    strict_float32()
    pipeline = Listening(folder, device)
    limits = limits_for("full", dtype_of_pipeline(folder), device_of(pipeline))
    with bundles.understood(said.folder / golden.INDEX, GoldenError):
        found = [_replayed(said, row, pipeline) for row in said.examples]
    rounded = precision_of(limits.dtype, limits.device).times_float32 > 1
    taps = [tap for one in found for tap in _taps_of(one, exact=not rounded)]
    verdict = judge_taps(taps, limits.overridden(overrides), outputs=[SCORES])
    return verdict.with_task(_task_of(found))


def _replayed(said: Golden, row: Mapping[str, Any], pipeline: Listening) -> Replayed:
    try:
        return Replayed(said, row, pipeline)
    except SamevoiceError:
        raise
    except RuntimeError as error:  # MLX's own
        raise GoldenError(f"{row['name']!r} cannot be run: {error}") from error


def _taps_of(one: Replayed, *, exact: bool) -> list[Tap]:
    """The scores; the turns, too, where nothing but the port can have moved them."""
    taps = [Tap(SCORES, one.truth, one.plain, one.scores, input=one.name)]
    for name in (*CLUSTERED, "phi") if one.clustered else ():
        said, got = one.clustered[name], one.stages.get(name)
        taps.append(Tap(name, said, said, got, mode="forced", input=one.name))
    if exact and not one.explained:
        for kind in KINDS:
            said, got = times_of(one.said[kind]), times_of(one.got[kind])
            taps.append(Tap(kind, said, said, got, input=one.name))
    return taps


def _task_of(found: Sequence[Replayed]) -> dict[str, dict[str, Any]]:
    sides = {kind: [one.errors(kind) for one in found] for kind in KINDS}
    whole, exclusive = (sum(sides[kind], Errors()).rate for kind in KINDS)
    beside = [0.0 if one.explained else one.errors("turns").rate for one in found]
    plain, got, truth = columns((one.plain, one.scores, one.truth) for one in found)
    return {
        "diarization": {"der": whole, "exclusive_der": exclusive, "unexplained_der": max(beside)},
        **compare_decisions(plain, got, threshold=found[0].threshold, truth=truth).sections(),
    }
