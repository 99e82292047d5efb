"""A result on disk, and beside a red one the diverging layer alone, to be taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from samevoice.parity import result as results
from samevoice.parity.dumps import write_reproduction
from samevoice.parity.engine import taps_of, trace
from samevoice.parity.identity import versions
from samevoice.parity.inputs import Example, into
from samevoice.parity.judge import SIDES, TapVerdict, Verdict
from samevoice.parity.metrics import Array
from samevoice.parity.result import Result

if TYPE_CHECKING:
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.reference import Reference

RESULT, REPRODUCTION = "result.json", "reproduction"


def saved(
    made: Result,
    verdict: Verdict,
    examples: Sequence[Example],
    reference: Reference,
    candidate: Candidate,
    output: str | Path | None,
) -> Result:
    if output is None:
        return made
    folder = Path(output)
    if verdict.failed:
        wrong = verdict.failed[0]
        example = next((one for one in examples if one.name == wrong.input), None)
        if example is not None:
            reproduce(folder / REPRODUCTION, wrong, example, reference, candidate)
            made = replace(made, details={**made.details, "reproduction": REPRODUCTION})
    results.write(folder / RESULT, made)
    return made


def reproduce(
    folder: Path, wrong: TapVerdict, example: Example, reference: Reference, candidate: Candidate
) -> Path:
    """The diverging layer alone: what went in, its weights, what came out on all sides."""
    traced = trace(reference, example)
    taps = taps_of(traced, candidate)
    found = next((x for x in taps if (x.name, x.mode, x.input) == wrong.key), None)
    arrays = {} if found is None else found.arrays
    layer = wrong.name.removesuffix(into(""))
    inputs = {name: x for name, x in traced.plain.inputs.items() if name == layer}
    parts: dict[str, dict[str, Array]] = {
        "input": inputs or example.fed,
        "weights": candidate.weights(wrong.name),
        **{who: {wrong.name: arrays[who]} if who in arrays else {} for who in SIDES},
    }
    about = {
        "tap": wrong.name,
        "mode": wrong.mode,
        "example": example.name,
        "reasons": list(wrong.reasons),
        "noise_ratio": str(wrong.noise_ratio),
        "versions": versions(),
        "judge": "samevoice judge reference.safetensors candidate.safetensors",
    }
    return write_reproduction(folder, parts, about, overwrite=True)
