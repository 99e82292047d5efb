"""A corpus of pieces of a recording, with references that say what nobody knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import soundfile

from samevoice.converters.reference import sample
from samevoice.errors import SamevoiceError
from samevoice.evaluation.corpora import read
from samevoice.evaluation.corpus import Corpus

RATE, SECONDS = 16_000, 12
LINE = "SPEAKER {uri} 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n"
TURNS = ((1, 4, "ana"), (4, 7, "bob"), (9, 2, "ana"))
PIECES = {"one": 0, "two": 12, "three": 18}  # and where each begins in the sample, in seconds


def write(folder: Path) -> None:
    """Twelve seconds each, an RTTM beside each, and one UEM."""
    for uri, start in PIECES.items():
        piece = sample()[start * RATE : (start + SECONDS) * RATE]
        soundfile.write(folder / f"{uri}.wav", piece, RATE)
        text = "".join(LINE.format(uri=uri, start=s, length=n, who=who) for s, n, who in TURNS)
        (folder / f"{uri}.rttm").write_text(text)
    (folder / "all.uem").write_text("".join(f"{uri} 1 0 {SECONDS}\n" for uri in PIECES))


def turn(uri: str, start: float = 0.0, length: float = 1.0, who: str = "ana") -> str:
    return LINE.format(uri=uri, start=f"{start:.3f}", length=f"{length:.3f}", who=who)


def summary(corpus: Corpus) -> list[tuple[str, str, object, object]]:
    return [(r.uri, Path(r.audio).name, r.reference.spans, r.scored) for r in corpus.recordings]


def refused(word: object, *parts: str) -> None:
    """That it is no corpus is said in one line with these parts."""
    with pytest.raises(SamevoiceError) as error:
        read(str(word))
    said = str(error.value)
    assert "\n" not in said
    assert re.search(".*".join(map(re.escape, parts)), said), said
