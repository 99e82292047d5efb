"""What evaluation.json and evaluation.csv hold: figures over a corpus, and of each recording."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from typing import Any

from samevoice import __version__
from samevoice.evaluation import figures, groups
from samevoice.evaluation.corpus import Corpus, Recording
from samevoice.evaluation.figures import Figure, Rates
from samevoice.evaluation.run import Result
from samevoice.evaluation.scores import (
    COLLAR,
    JACCARD,
    LENIENT,
    STRICT,
    Score,
    Scores,
    added,
)
from samevoice.evaluation.systems import System
from samevoice.files import sha256_of

SCHEMA = 1
LABELS = ("A", "B")
MOVED = 10
DRAWN = 6  # recordings whose turns a page draws
Results = Sequence[Result]


@dataclass(frozen=True)
class Evaluation:
    """``results``: of each recording that did not fail, one a system; ``failed``: why not."""

    corpus: Corpus
    systems: tuple[System, ...]
    results: Mapping[str, tuple[Result, ...]]
    failed: Mapping[str, str]

    @property
    def recordings(self) -> list[Recording]:
        return [one for one in self.corpus.recordings if one.uri in self.results]

    @cached_property
    def columns(self) -> list[Results]:
        """The results of each system, in the order of ``recordings``."""
        return list(zip(*(self.results[one.uri] for one in self.recordings), strict=True))

    @cached_property
    def disagreements(self) -> list[Score]:
        """Of each recording: B scored as if A were the reference."""
        return [one.apart for one in self.columns[-1] if one.apart]

    @property
    def is_pair(self) -> bool:
        return len(self.systems) == 2

    @property
    def speakers(self) -> list[int]:
        """Of each reference."""
        return [one.scores.speakers for one in self.columns[0] if one.scores]

    @cached_property
    def overlaps(self) -> list[float]:
        """Of each reference, the share of its speech in which several speak."""
        if not self.corpus.referenced:
            return []
        pairs = zip(self.recordings, self.columns[0], strict=True)
        return [groups.overlap(one.reference, result.scored) for one, result in pairs]

    # The whole ------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """``schema`` and ``command`` first: they tell what the file is."""
        return {
            "schema": SCHEMA,
            "command": "evaluate",
            "samevoice": __version__,
            "answer": self.answer,
            "corpus": self.about,
            "scoring": {
                STRICT: {"collar": 0.0, "overlap": True},
                LENIENT: {"collar": COLLAR, "overlap": True},
                JACCARD: {"collar": 0.0, "overlap": True},
                "speakers": "unknown",
            },
            "bootstrap": {
                "resamplings": figures.RESAMPLINGS,
                "seed": figures.SEED,
                "level": figures.LEVEL,
            },
            "systems": [
                {"label": label, "name": one.name, "made_of": dict(one.made_of), **found}
                for label, one, found in zip(LABELS, self.systems, self.by_system, strict=False)
            ],
            "pair": self.pair,
            "by_speakers": self.by_speakers,
            "by_overlap": self.by_overlap,
            "recordings": self.recording_rows,
            "timelines": [self._timeline(at) for at in self.worst[:DRAWN]],
            "failed": [{"uri": uri, "why": why} for uri, why in self.failed.items()],
        }

    @property
    def about(self) -> dict[str, Any]:
        """The corpus, as far as it was evaluated."""
        first = self.columns[0]
        return {
            "name": self.corpus.name,
            "sha256": hash_of_corpus(self.recording_rows),
            "recordings": len(self.recordings),
            "references": self.corpus.referenced,
            "uems": sum(one.scored is not None for one in self.recordings),
            "duration": sum(one.duration for one in first),
            "scored": sum(_seconds(one) for one in first),
        }

    @cached_property
    def by_system(self) -> list[dict[str, Any]]:
        return [{**_rates_of(one), **_costs_of(one)} for one in self.columns]

    @cached_property
    def pair(self) -> dict[str, Any] | None:
        """How far apart A and B are, how their rates differ, and where most."""
        if not self.is_pair:
            return None
        return {
            "disagreement": _both(figures.means(Rates.of_scores(self.disagreements))),
            "change": _changes(*self.columns) if self.corpus.referenced else None,
            "moved": self.moved[:MOVED],
        }

    @property
    def moved(self) -> list[dict[str, Any]]:
        """The recordings that B changes, those first whose DER changes most."""
        found = [
            {
                "uri": one.uri,
                "change": b.scores.strict.der - a.scores.strict.der
                if a.scores and b.scores
                else None,
                "disagreement": apart.der,
            }
            for one, a, b, apart in zip(
                self.recordings, *self.columns, self.disagreements, strict=True
            )
            if apart.wrong
        ]
        return sorted(found, key=lambda one: -abs(one["change"] or 0.0) or -one["disagreement"])

    @cached_property
    def by_speakers(self) -> list[dict[str, Any]]:
        """The same for recordings of as many speakers, where there are enough of them."""
        return self._by("speakers", self.speakers, groups.SPEAKERS)

    @cached_property
    def by_overlap(self) -> list[dict[str, Any]]:
        """The same for recordings with as much overlapped speech."""
        return self._by("overlap", self.overlaps, groups.OVERLAP)

    def _by(
        self, what: str, values: Sequence[float], bounds: groups.Bounds
    ) -> list[dict[str, Any]]:
        found = []
        for name, rows in groups.places(values, bounds):
            columns = [[column[at] for at in rows] for column in self.columns]
            found.append(
                {
                    what: name,
                    "recordings": len(rows),
                    "systems": [_rates_of(one) for one in columns],
                    "change": _changes(*columns) if self.is_pair else None,
                }
            )
        return found

    @cached_property
    def hashes(self) -> list[str]:
        """Of each recording with its reference."""
        pairs = zip(self.recordings, self.columns[0], strict=True)
        return [_hash_of(recording, one.audio) for recording, one in pairs]

    def _recording(self, at: int) -> dict[str, Any]:
        recording, first = self.recordings[at], self.columns[0][at]
        found: dict[str, Any] = {
            "uri": recording.uri,
            "audio": str(recording.audio),
            "sha256": self.hashes[at],
            "duration": first.duration,
            "uem": recording.scored is not None,
            "scored": [list(region) for region in first.scored],
            "speakers": first.scores.speakers if first.scores else None,
            "overlap": self.overlaps[at] if self.overlaps else None,
        }
        for label, column in zip(LABELS, self.columns, strict=False):
            one = column[at]
            found[label] = {
                **(one.scores.as_dict() if one.scores else {"speakers": self._found(label, at)}),
                "seconds": one.seconds,
                "peak_memory": one.peak,
            }
        if self.is_pair:
            found["disagreement"] = self.disagreements[at].as_dict()
        return found

    @cached_property
    def worst(self) -> list[int]:
        """Places of the recordings: of a pair those first that moved most, or have the most DER."""

        def key(at: int) -> tuple[float, ...]:
            scores = [column[at].scores for column in self.columns]
            rates = [one.strict.der for one in scores if one]
            change = abs(rates[-1] - rates[0]) if rates else 0.0
            apart = self.disagreements[at].der if self.is_pair else 0.0
            return (-change, -apart, *(-one for one in rates))

        return sorted(range(len(self.recordings)), key=key)

    def _timeline(self, at: int) -> dict[str, Any]:
        """Who speaks when in the reference and by each system."""
        recording = self.recordings[at]
        sides = {"reference": recording.reference}
        sides |= {label: x[at].turns for label, x in zip(LABELS, self.columns, strict=False)}
        return {"uri": recording.uri, **{name: turns.spans for name, turns in sides.items()}}

    def _found(self, label: str, at: int) -> int:
        """How many speakers a system finds where it is scored."""
        one = self.columns[LABELS.index(label)][at]
        turns = one.turns
        return len({who for start, end in one.scored for who in turns.crop(start, end).labels()})

    def to_csv(self) -> str:
        """One row a recording; what is not known is empty."""
        rows = [_row(one) for one in self.recording_rows]
        text = StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    @cached_property
    def recording_rows(self) -> list[dict[str, Any]]:
        """What evaluation.json says of each recording."""
        return [self._recording(at) for at in range(len(self.recordings))]

    # In one sentence ------------------------------------------------------------------------------

    @property
    def answer(self) -> str:
        count = len(self.recordings)
        over = "1 recording" if count == 1 else f"{count} recordings"
        if not self.is_pair:
            found = figure(self.by_system[0][STRICT]["micro"])
            return f"A has a DER of {found.value:.1%}{_interval(found)} on {over}."
        assert self.pair is not None
        if not any(one.wrong for one in self.disagreements):
            return f"A and B give the same turns on {over}."
        if not self.corpus.referenced:
            found = figure(self.pair["disagreement"]["micro"])
            return f"B's turns are {found.value:.1%}{_interval(found)} from A's on {over}."
        change = figure(self.pair["change"][STRICT]["micro"])
        side = "lower" if change.value < 0 else "higher"
        by = points(abs(change.value)).lstrip("+")
        shown = f"DER is {by} points {side}{_interval(change, points)}"
        if change.low is None or change.high is None:
            return f"One recording cannot tell A from B: B's {shown}."
        if change.low > 0:
            return f"B is worse than A: its {shown} on {over}."
        if change.high < 0:
            return f"B is better than A: its {shown} on {over}."
        return f"These {over} do not tell A from B: B's {shown}."

    @property
    def is_good(self) -> bool | None:
        """Whether B is the same or better; None where that is not known."""
        if not self.pair:
            return None
        if not any(one.wrong for one in self.disagreements):
            return True
        if not self.pair["change"]:
            return None
        change = figure(self.pair["change"][STRICT]["micro"])
        if change.low is None or change.high is None or change.low <= 0 <= change.high:
            return None
        return change.high < 0


# Hashes -------------------------------------------------------------------------------------------


def _hash_of(recording: Recording, audio: str) -> str:
    """One for the recording, its name, its reference and the regions that its UEM names."""
    said = recording.uri, audio, recording.reference.spans, recording.scored
    return sha256_of(repr(said))


def hash_of_corpus(rows: Iterable[Mapping[str, Any]]) -> str:
    """One for all recordings of an evaluation, in any order."""
    lines = sorted(f"{row['sha256']}\n" for row in rows)
    return sha256_of("".join(lines))


# Figures ------------------------------------------------------------------------------------------


def _scores(results: Results) -> list[Scores]:
    """Empty without references."""
    return [one.scores for one in results if one.scores]


def _rates_of(results: Results) -> dict[str, Any]:
    scores = _scores(results)
    if not scores:
        return {}
    found: dict[str, Any] = {
        name: _both(figures.means(rates)) for name, rates in figures.rates_of(scores).items()
    }
    parts = {STRICT: [x.strict for x in scores], LENIENT: [x.lenient for x in scores]}
    for name, column in parts.items():
        seconds = added(column).as_dict()
        del seconds["der"]
        found[name] |= seconds
    right = sum(one.found == one.speakers for one in scores)
    return found | {"speakers_right": right, "recordings": len(scores)}


def _costs_of(results: Results) -> dict[str, Any]:
    """Of what ran: written turns took nothing that is known."""
    ran = [(one.seconds, one.duration) for one in results if one.seconds is not None]
    length = sum(duration for _, duration in ran)
    peaks = [one.peak for one in results if one.peak is not None]
    return {
        "real_time_factor": sum(seconds for seconds, _ in ran) / length if length else None,
        "peak_memory": max(peaks, default=None),
    }


def _changes(a: Results, b: Results) -> dict[str, Any]:
    before, after = (figures.rates_of(_scores(one)) for one in (a, b))
    return {name: _both(figures.changes(before[name], after[name])) for name in before}


def _both(found: tuple[Figure, Figure]) -> dict[str, Any]:
    micro, macro = found
    return {"micro": micro.as_dict(), "macro": macro.as_dict()}


def figure(said: Mapping[str, Any]) -> Figure:
    return Figure(said["value"], said["low"], said["high"])


def points(value: float) -> str:
    """A difference of rates in points of per cent, with its sign."""
    shown = f"{100 * value:+.{2 if abs(value) < 0.1 else 1}f}"
    return shown[1:] if float(shown) == 0 else shown


def _interval(found: Figure, show: Any = "{:.1%}".format) -> str:
    if found.low is None:
        return ""
    return f" (95% interval {show(found.low)} to {show(found.high)})"


def _seconds(result: Result) -> float:
    return sum(end - start for start, end in result.scored)


def _row(said: Mapping[str, Any]) -> dict[str, Any]:
    """A recording's figures side by side: ``A_der``, ``A_missed``, ``disagreement``."""
    kept = {name: said[name] for name in ("uri", "duration", "speakers")}
    kept["scored"] = sum(end - start for start, end in said["scored"])
    kept["overlap"] = said["overlap"]
    for label in (one for one in LABELS if one in said):
        for name, value in said[label].items():
            if isinstance(value, Mapping):
                kept[f"{label}_{name}"] = value[JACCARD if name == JACCARD else "der"]
                if name == STRICT:
                    kept |= {f"{label}_{k}": v for k, v in value.items() if k != "der"}
            else:
                kept[f"{label}_{name}"] = value
    if "disagreement" in said:
        kept["disagreement"] = said["disagreement"]["der"]
    return kept
