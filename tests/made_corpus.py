"""A corpus of pieces of a recording, with references that say what nobody knows."""

from __future__ import annotations

from pathlib import Path

import soundfile

from samevoice.converters.reference import sample

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
