"""What tune.json holds: every figure, by recording and candidate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from samevoice import __version__
from samevoice.evaluation.corpus import Corpus
from samevoice.evaluation.grid import STEP, Numbers
from samevoice.evaluation.scores import Score, added
from samevoice.evaluation.tuning import Heard, Tuning

SCHEMA = 1


@dataclass(frozen=True)
class Tuned:
    """A tuning with all that one must know to read it, or to do it again."""

    model: str
    fingerprint: str  # of the embedding
    corpus: Corpus
    heard: Heard
    tuning: Tuning
    steps: Sequence[Tuning]  # the same with each step alone

    @property
    def own(self) -> Score:
        return added(self.heard.own)

    @property
    def numbers(self) -> Numbers:
        return self.tuning.grid.numbers(self.tuning.chosen)

    def as_dict(self) -> dict[str, Any]:
        """``schema`` and ``command`` first: they tell what the file is."""
        tuning = self.tuning
        return {
            "schema": SCHEMA,
            "command": "tune",
            "samevoice": __version__,
            "model": {"name": self.model, "embedding": self.fingerprint},
            "corpus": self.corpus.name,
            "scoring": {"collar": 0.0, "overlap": True, "speakers": "unknown"},
            "recordings": self._recordings(),
            "grid": {name: list(values) for name, values in tuning.grid.axes.items()},
            "idle": list(tuning.idle),
            "own": self._scored(tuning.grid.own, self.heard.own),
            "chosen": self._scored(self.numbers, tuning.scores[tuning.chosen]),
            "cross_validated": tuning.cross_validated.as_dict(),
            "folds": self._folds(),
            "steps": [self._step(one) for one in self.steps],
            "candidates": [
                self._scored(tuning.grid.numbers(at), tuning.scores[at]) for at in tuning.ranked()
            ],
        }

    def _recordings(self) -> list[dict[str, Any]]:
        return [
            {
                "uri": one.uri,
                "audio": str(one.audio),
                "speakers": len(one.reference.labels()),
                "uem": one.scored is not None,
                "scored": [list(region) for region in regions],
            }
            for one, regions in zip(self.corpus.recordings, self.heard.regions, strict=True)
        ]

    def _scored(self, numbers: Numbers, scores: Iterable[Score]) -> dict[str, Any]:
        found = list(scores)
        by_uri = zip(self.corpus.recordings, found, strict=True)
        return {
            "numbers": dict(numbers),
            **added(found).as_dict(),
            "recordings": {recording.uri: one.as_dict() for recording, one in by_uri},
        }

    def _folds(self) -> list[dict[str, Any]]:
        tuning, recordings = self.tuning, self.corpus.recordings
        return [
            {
                "kept_aside": [recordings[k].uri for k in fold.kept],
                "numbers": dict(tuning.grid.numbers(fold.chosen)),
                **added(tuning.scores[fold.chosen][list(fold.kept)]).as_dict(),
            }
            for fold in tuning.folds
        ]

    def _step(self, one: Tuning) -> dict[str, Any]:
        numbers = one.grid.numbers(one.chosen)
        return {
            STEP: numbers[STEP],
            "numbers": dict(numbers),
            **one.of(one.chosen).as_dict(),
            "cross_validated": one.cross_validated.as_dict(),
        }

    def settings(self) -> dict[str, Any]:
        """What a bundle's config says instead, to have the chosen numbers."""
        kept = {name: value for name, value in self.numbers.items() if name != STEP}
        step, own = self.numbers[STEP], self.tuning.grid.own[STEP]
        if step != own:
            kept["segmentation_step"] = float(step) / self.tuning.grid.duration
        return kept

    @property
    def note(self) -> str:
        """For the card and the provenance of a bundle with these numbers."""
        der, honest = self.tuning.of(self.tuning.chosen).der, self.tuning.cross_validated.der
        count = len(self.corpus.recordings)
        return (
            f"{said(self.numbers)}: chosen by samevoice tune on {count} recordings with "
            f"references, DER {der:.1%} on them, {honest:.1%} cross-validated"
        )


def said(numbers: Numbers) -> str:
    """In words, as a person would type them."""
    shown = (f"{k} {v:g}" if isinstance(v, int | float) else f"{k} {v}" for k, v in numbers.items())
    return ", ".join(shown)
