"""The turns that an earlier evaluation kept, to hear what an upgrade moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samevoice.evaluation import gate
from samevoice.evaluation.corpus import Corpus
from samevoice.evaluation.evaluated import Evaluation
from samevoice.evaluation.run import Kept, files
from samevoice.evaluation.systems import EvaluationError, Written
from samevoice.files import sha256_of
from samevoice.models.diarization import formats

KIND = "baseline"
NAMED = 3  # recordings
SAME = "the same bundle, versions and device"


@dataclass(frozen=True)
class Baseline:
    """``made_of``: what heard the turns then; ``hashes``: of each recording with its reference."""

    path: Path
    name: str
    made_of: Mapping[str, Any]
    hashes: Mapping[str, str]

    def system(self, corpus: Corpus) -> Written:
        """The turns of this corpus as they were kept; what was changed since is refused."""
        kept = {one.uri: self._kept(one.uri) for one in corpus.recordings}
        turns = {formats.field(uri): one.turns for uri, one in kept.items()}
        text = "".join(f"{uri}\n{one.text}" for uri, one in sorted(kept.items()))
        fingerprint = sha256_of(text)
        made_of = {**self.made_of, "kind": KIND, "turns": fingerprint}
        return Written(self.system_name, made_of, turns)

    @property
    def system_name(self) -> str:
        return f"{self.name}-{KIND}"

    def _kept(self, uri: str) -> Kept:
        if uri not in self.hashes:
            raise EvaluationError(f"{self.path} has no {uri!r}: make a baseline of this corpus")
        rttm, about = files(self.path.parent, self.name, uri)
        found = Kept.read(rttm, about)
        if found is None:
            raise EvaluationError(
                f"{rttm} is not as the baseline kept it, or {about.name} is not: make it again"
            )
        return found

    def notes(self, made: Evaluation) -> Iterator[str]:
        """What is another now, a line each: versions, and what the corpus holds."""
        a, b = (one.made_of for one in made.systems)
        yield f"since the baseline: {', '.join(differences(a, b)) or SAME}"
        moved = sum(one.wrong > 0 for one in made.disagreements)
        yield f"{moved} of {len(made.recordings)} recordings moved"
        now = {str(row["uri"]): str(row["sha256"]) for row in made.recording_rows}
        known = {one.uri for one in made.corpus.recordings}
        others = [uri for uri, sha256 in now.items() if self.hashes[uri] != sha256]
        if others:
            yield f"another recording, reference or UEM than the baseline's: {_some(others)}"
        if gone := [uri for uri in self.hashes if uri not in known]:
            yield f"in the baseline alone: {_some(gone)}"


def read(path: Path) -> Baseline:
    """A of an evaluation.json, which lies beside the turns."""
    found = gate.read(path)
    made_of = found.made_of[0]
    if made_of.get("kind") == "rttm":
        raise EvaluationError(f"A of {path} are RTTM files: name them with --against instead")
    hashes = {str(row["uri"]): str(row["sha256"]) for row in found.rows}
    return Baseline(path, str(found.said["systems"][0]["name"]), made_of, hashes)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What two systems of one name are not both made of; the parts are in the fingerprint."""
    names = [name for name in {**a, **b} if name not in ("kind", "turns", "parts")]
    return [
        f"{name} {_short(a.get(name))} -> {_short(b.get(name))}"
        for name in names
        if a.get(name) != b.get(name)
    ]


def _short(value: object) -> str:
    words = "none" if value is None else str(value)
    return words if len(words) < 40 else words[:12]


def _some(uris: Sequence[str]) -> str:
    more = f" and {len(uris) - NAMED} more" if len(uris) > NAMED else ""
    return ", ".join(uris[:NAMED]) + more
