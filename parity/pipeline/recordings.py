"""What both pipelines are fed with: whole recordings, and who spoke in them where that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samevoice.models.diarization import output
from samevoice.parity import inputs as inputs_module
from samevoice.parity import roles
from samevoice.parity.inputs import CHUNK, FORCED, RATE, Example, InputError, batch
from samevoice.parity.metrics import Array
from samevoice.parity.turns import Turn


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recording that both pipelines are fed with, and who spoke in it, where that is known."""

    name: str
    samples: Array  # (N,) at 16 kHz
    spoken: tuple[Turn, ...] | None = None

    @property
    def example(self) -> Example:
        return Example(self.name, batch([self.samples]), depth=FORCED)

    @property
    def duration(self) -> float:
        return len(self.samples) / RATE


def recordings_of(
    chosen: roles.Set | Sequence[Recorded | Example],
    audio: Sequence[str | Path] = (),
    references: Sequence[str | Path] = (),
) -> list[Recorded]:
    """The set, then the recordings that are given, each whole."""
    found = list(default_recordings(chosen)) if isinstance(chosen, str) else [*_recorded(chosen)]
    spoken = _spoken(references)
    names = {one.name for one in found}
    for path in audio:
        name = Path(path).name
        count = sum(known == name or known.startswith(f"{name} #") for known in names)
        name = f"{name} #{count + 1}" if count else name
        names.add(name)
        turns = spoken.get(Path(path).stem)
        if turns is None and len(audio) == len(spoken) == 1:
            turns = next(iter(spoken.values()))  # one recording, one reference: these belong
        found.append(Recorded(name, inputs_module.read_audio(path), turns))
    strangers = sorted(set(spoken) - {Path(path).stem for path in audio})
    if strangers and not any(one.spoken is not None for one in found):
        raise InputError(
            f"the references are of {strangers[0]!r}, and no --audio is called that: rename one"
        )
    return found


def _recorded(given: Sequence[Recorded | Example]) -> Iterator[Recorded]:
    """Recordings as they are, and each waveform of the networks' examples as one."""
    for one in given:
        if isinstance(one, Recorded):
            yield one
            continue
        for number, waveform in enumerate(one.waveforms[:, 0]):
            several = len(one.waveforms) > 1
            yield Recorded(f"{one.name} {number}" if several else one.name, waveform)


def default_recordings(
    chosen: roles.Set = roles.QUICK, speech: Array | None = None
) -> Iterator[Recorded]:
    """The set for a whole pipeline; ``speech`` stands for pyannote.audio's recording."""
    speech = inputs_module.sample() if speech is None else speech
    yield Recorded("sample", speech)
    if chosen == roles.WHOLE:
        said = speech[inputs_module.SPEECH - 2 * RATE :]
        yield Recorded("9.99 seconds", said[: CHUNK - RATE // 100])
        yield Recorded("one sample more than a chunk", said[: CHUNK + 1])
        yield Recorded("silence", np.zeros(12 * RATE, np.float32))
        yield Recorded("two minutes", np.tile(speech, 4))


def _spoken(paths: Sequence[str | Path]) -> dict[str, tuple[Turn, ...]]:
    found: dict[str, list[Turn]] = {}
    for path in paths:
        for uri, turns in read_rttm(path).items():
            found.setdefault(uri, []).extend(turns)
    return {uri: tuple(turns) for uri, turns in found.items()}


def read_rttm(path: str | Path) -> dict[str, tuple[Turn, ...]]:
    """A reference: recording -> turns."""
    found = output.read_rttm(path)
    if not found:
        raise InputError(f"{path} holds no line of a SPEAKER: is it an RTTM?")
    return {uri: tuple(turns.spans) for uri, turns in found.items()}
