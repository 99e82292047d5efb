"""What a diarization is: turns, who takes them, and their voices; and the ways to write it down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from samevoice.errors import MissingExtraError
from samevoice.models.diarization import formats

if TYPE_CHECKING:
    from samevoice.models.diarization.audio import Audio

SHORTEST = 1e-6  # seconds: pyannote.core drops what is not longer


@dataclass(frozen=True, order=True)
class Segment:
    """A stretch of time, in seconds."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        return self.end - self.start


Turn = tuple[Segment, str]


@dataclass(frozen=True)
class Turns(Sequence[Turn]):
    """Who speaks when: ``for turn, speaker in turns`` goes by start, then by end.

    Equal segments stay in the order in which they were given, which is how the pipeline follows
    pyannote's. Empty segments are dropped, as pyannote.core does.
    """

    turns: tuple[Turn, ...] = ()
    uri: str = ""

    def __post_init__(self) -> None:
        kept = [turn for turn in self.turns if turn[0].duration > SHORTEST]
        object.__setattr__(self, "turns", tuple(sorted(kept, key=lambda turn: turn[0])))

    @classmethod
    def of(cls, spans: Iterable[formats.Span], uri: str = "") -> Turns:
        """From start, end and speaker of each."""
        return cls(tuple((Segment(start, end), who) for start, end, who in spans), uri)

    def __len__(self) -> int:
        return len(self.turns)

    @overload
    def __getitem__(self, index: int) -> Turn: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Turn, ...]: ...
    def __getitem__(self, index: int | slice) -> Turn | tuple[Turn, ...]:
        return self.turns[index]

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.turns)

    @property
    def spans(self) -> list[formats.Span]:
        """Start, end and speaker of each."""
        return [(segment.start, segment.end, who) for segment, who in self]

    def labels(self) -> list[str]:
        """Every speaker once, sorted."""
        return sorted({speaker for _, speaker in self})

    def seconds(self, label: str) -> float:
        """How long one speaker speaks."""
        return float(sum(turn.duration for turn, speaker in self if speaker == label))

    def at_least(self, duration: float) -> Turns:
        """Without the turns that are shorter, by the printed millisecond."""
        return self._of(t for t in self if round(t[0].duration, 3) >= duration)

    def crop(self, start: float, end: float) -> Turns:
        """What of each turn lies between the two."""
        cut = ((Segment(max(s.start, start), min(s.end, end)), who) for s, who in self)
        return self._of((segment, who) for segment, who in cut if segment.duration > 0)

    def renamed(self, names: Mapping[str, str]) -> Turns:
        """With other labels; those that the mapping does not hold stay."""
        return self._of((segment, names.get(who, who)) for segment, who in self)

    def _of(self, turns: Iterable[Turn]) -> Turns:
        return Turns(tuple(turns), self.uri)

    def to_rttm(self) -> str:
        """As pyannote.core writes it; see ``formats.rttm`` for names with spaces."""
        return formats.rttm(self.spans, self.uri)

    def to_srt(self) -> str:
        return formats.srt(self.spans)

    def to_vtt(self) -> str:
        return formats.vtt(self.spans)

    def to_annotation(self) -> Any:
        """pyannote.core's Annotation, which writes the same RTTM."""
        core = _pyannote_core()
        annotation = core.Annotation(uri=self.uri or None)
        width = len(str(len(self)))  # tracks are sorted as strings
        for number, (segment, who) in enumerate(self):
            place = core.Segment(segment.start, segment.end)
            annotation[place, f"{number:0{width}d}"] = who
        return annotation

    @staticmethod
    def from_annotation(annotation: Any) -> Turns:
        """From pyannote.core's Annotation, or anything that has its ``itertracks`` and ``uri``."""
        found = (
            (float(segment.start), float(segment.end), str(who))
            for segment, _, who in annotation.itertracks(yield_label=True)
        )
        return Turns.of(found, "" if annotation.uri is None else str(annotation.uri))


def read_rttm(path: str | Path) -> dict[str, Turns]:
    """Every recording's turns by its uri."""
    found = formats.spans_of_rttm(Path(path))
    return {uri: Turns.of(spans, uri) for uri, spans in found.items()}


def _pyannote_core() -> Any:
    try:
        import pyannote.core
    except ImportError as error:
        raise MissingExtraError("pyannote.core", "parity") from error
    return pyannote.core


@dataclass
class Diarization:
    """Who spoke when in one recording.

    ``speaker_embeddings`` (K, D) has a row a label, in the order of ``labels``.
    ``exclusive_speaker_diarization`` has one speaker at a time. ``duration`` counts the samples
    that were read, ``seconds`` what each stage took, ``notes`` what to know about this result.
    ``recording`` is what a notebook plays: a short file, or waveform, that was given.
    """

    uri: str
    speaker_diarization: Turns
    exclusive_speaker_diarization: Turns
    speaker_embeddings: NDArray[Any]
    duration: float
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    recording: Audio | None = field(default=None, kw_only=True, repr=False, compare=False)

    @property
    def labels(self) -> list[str]:
        return self.speaker_diarization.labels()

    @property
    def real_time_factor(self) -> float:
        """Seconds of work a second of audio: below 1 is faster than listening."""
        return sum(self.seconds.values()) / self.duration if self.duration else 0.0

    def turns(self, exclusive: bool = False) -> Turns:
        return self.exclusive_speaker_diarization if exclusive else self.speaker_diarization

    def at_least(self, duration: float) -> Diarization:
        """Without shorter turns, and without the speakers who have no others."""
        kept = self.speaker_diarization.at_least(duration)
        known = set(kept.labels())
        rows = [number for number, label in enumerate(self.labels) if label in known]
        exclusive = self.exclusive_speaker_diarization.at_least(duration)
        return replace(
            self,
            speaker_diarization=kept,
            exclusive_speaker_diarization=exclusive._of(t for t in exclusive if t[1] in known),
            speaker_embeddings=self.speaker_embeddings[rows],
        )

    def renamed(self, names: Mapping[str, str]) -> Diarization:
        """With other names. Speakers who get the same one become one: their voice is the mean,
        weighted by how long each speaks."""
        voices: dict[str, list[tuple[NDArray[Any], float]]] = {}
        for label, voice in zip(self.labels, self.speaker_embeddings, strict=True):
            spoken = self.speaker_diarization.seconds(label)
            voices.setdefault(names.get(label, label), []).append((voice, spoken))
        rows = [_mean(voices[label]) for label in sorted(voices)]
        return replace(
            self,
            speaker_diarization=self.speaker_diarization.renamed(names),
            exclusive_speaker_diarization=self.exclusive_speaker_diarization.renamed(names),
            speaker_embeddings=np.array(rows) if rows else self.speaker_embeddings,
        )

    def to_rttm(self, exclusive: bool = False) -> str:
        return self.turns(exclusive).to_rttm()

    def to_srt(self, exclusive: bool = False) -> str:
        return self.turns(exclusive).to_srt()

    def to_vtt(self, exclusive: bool = False) -> str:
        return self.turns(exclusive).to_vtt()

    def as_dict(
        self,
        *,
        embeddings: bool = False,
        timing: bool = False,
        model: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What ``to_json`` writes.

        ``uri``, ``duration`` (seconds), ``speakers`` (each ``label``, ``seconds`` of speech,
        ``turns``, and ``embedding`` where asked for), ``diarization`` and
        ``exclusive_diarization`` (each turn ``start``, ``end``, ``speaker``), ``model`` (what made
        it) and ``notes``. With ``timing`` also ``seconds`` by stage and ``real_time_factor``,
        which differ from run to run; all the rest is the same each time.
        """
        found: dict[str, Any] = {
            "uri": self.uri,
            "duration": round(self.duration, 3),
            "speakers": self._speakers(embeddings),
            "diarization": _listed(self.speaker_diarization),
            "exclusive_diarization": _listed(self.exclusive_speaker_diarization),
            "model": dict(model or {}),
            "notes": list(self.notes),
        }
        if timing:
            found["seconds"] = {stage: round(spent, 3) for stage, spent in self.seconds.items()}
            found["real_time_factor"] = round(self.real_time_factor, 4)
        return found

    def to_json(
        self,
        *,
        embeddings: bool = False,
        timing: bool = False,
        model: Mapping[str, Any] | None = None,
    ) -> str:
        return formats.json_text(self.as_dict(embeddings=embeddings, timing=timing, model=model))

    def _repr_html_(self) -> str:
        """What a notebook shows: a page to listen to, or the turns alone."""
        from samevoice.models.diarization import notebook

        return notebook.html(self)

    def _speakers(self, embeddings: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for label, voice in zip(self.labels, self.speaker_embeddings, strict=True):
            spoken = round(self.speaker_diarization.seconds(label), 3)
            turns = sum(speaker == label for _, speaker in self.speaker_diarization)
            found.append({"label": label, "seconds": spoken, "turns": turns})
            if embeddings:
                found[-1]["embedding"] = [float(x) if np.isfinite(x) else None for x in voice]
        return found


def _listed(turns: Turns) -> list[dict[str, Any]]:
    return [
        {"start": round(start, 3), "end": round(end, 3), "speaker": speaker}
        for start, end, speaker in turns.spans
    ]


def _mean(voices: list[tuple[NDArray[Any], float]]) -> NDArray[Any]:
    if len(voices) == 1:
        return voices[0][0]
    rows, weights = zip(*voices, strict=True)
    return np.asarray(np.average(np.stack(rows), axis=0, weights=weights))
