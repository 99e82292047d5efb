"""Evaluations of made-up turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import made_results

from samevoice.evaluation.corpus import Corpus, Recording, Regions
from samevoice.evaluation.evaluated import Evaluation
from samevoice.evaluation.run import Result
from samevoice.evaluation.scores import judge, score
from samevoice.evaluation.systems import Written
from samevoice.models.diarization.output import Turns

LENGTH = 10.0
TALK = Turns.of([(0, 4, "ana"), (3, 8, "bob")])
RIGHT = Turns.of([(0, 4, "x"), (3, 8, "y")])
HALF = Turns.of([(0, 4, "x")])


def made(
    *sides: Sequence[Turns],
    names: Sequence[str] = (),
    reference: Turns | None = TALK,
    failed: dict[str, str] | None = None,
    scored: tuple[tuple[float, float], ...] | None = None,
    systems: Sequence[str] = ("ours", "theirs"),
    corpus: str = "meetings",
) -> Evaluation:
    """Each side's turns of each recording."""
    uris = names or [f"talk{k}" for k in range(len(sides[0]))]
    region = scored or ((0.0, LENGTH),)
    recordings = [Recording(x, Path(f"{x}.wav"), reference or Turns(), scored) for x in uris]
    results = {
        uri: tuple(result(turns, reference, region, column[0]) for turns in column)
        for uri, column in zip(uris, zip(*sides, strict=True), strict=True)
    }
    written = tuple(
        Written(name, {"kind": "rttm", "fingerprint": name * 16}, {})
        for name, _ in zip(systems, sides, strict=False)
    )
    found = Corpus(corpus, tuple(recordings), reference is not None)
    return Evaluation(found, written, results, failed or {})


def result(turns: Turns, reference: Turns | None, region: Regions, first: Turns) -> Result:
    scores = judge(reference, turns, region) if reference else None
    apart = score(first, turns, region)
    return Result(lambda: turns, LENGTH, region, scores, 1.0, apart=apart)


def hostile_turns(who: str) -> Turns:
    return Turns.of([(0, 4, who), (5, 6, f"{who} 2")])


MADE: dict[str, Callable[[], Evaluation]] = {
    "worse": lambda: made([RIGHT] * 6, [HALF] * 6, failed={"broken": "broken.wav is cut off"}),
    "better": lambda: made([HALF] * 6, [RIGHT] * 6, scored=((2.0, 5.0), (6.0, 9.0))),
    "same": lambda: made([RIGHT] * 2, [RIGHT] * 2),
    "undecided": lambda: made([RIGHT, HALF], [HALF, RIGHT]),
    "one": lambda: made([RIGHT], [HALF]),
    "single": lambda: made([HALF, RIGHT, HALF]),
    "without": lambda: made([RIGHT, HALF], [HALF, HALF], reference=None),
    "hostile": lambda: made(
        *([RIGHT] * len(made_results.HOSTILE), [hostile_turns(x) for x in made_results.HOSTILE]),
        names=made_results.HOSTILE,
        failed={f"{x} failed": f"why: {x}" for x in made_results.HOSTILE},
    ),
}
