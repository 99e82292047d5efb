"""Both frameworks on the same inputs, seam by seam: what either side gave, as taps for the judge.

One trace of the original serves any number of candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from samevoice.parity import roles
from samevoice.parity.inputs import FORCED, OUTPUT, OUTPUT_ONLY, Example, Recording, is_output
from samevoice.parity.judge import SIDES, Tap, Verdict, judge_taps
from samevoice.parity.limits import Limits
from samevoice.parity.metrics import Array, ShapeMismatchError, noise_ratio

if TYPE_CHECKING:
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.reference import Reference

Floors: TypeAlias = Mapping[str, Mapping[str, Array]]  # evaluation -> tap -> array

# Above this noise_ratio the reference's other evaluations are run, to tell luck from error.
QUIET = 1.5
# The output of a run in which every layer was seen. The forms that are fast while nobody looks
# must give the same, so both are held against the truth.
RECORDED = "output.recorded"
# The output for filterbank features instead of a waveform: an embedding takes both.
FEATURES = "output.features"


# The reference's side of one example --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trace:
    """All that the reference has to say on one example; any candidate is held against it.

    ``local`` is the truth of each layer alone: float64 arithmetic on the float32 reference's own
    input of that layer. Fed with the same input, a port must be as close to it as the reference
    itself, so noise_ratio means for one layer what it means for the whole network.
    """

    example: Example
    truth: Recording
    plain: Recording
    local: Recording | None = None
    evaluate: Callable[[], Floors] = dict
    measured: bool = False  # whether the floors are, at every tap

    @cached_property
    def floors(self) -> Floors:
        """Other evaluations of the reference, measured when a figure first needs them."""
        return self.evaluate()


def trace(reference: Reference, example: Example) -> Trace:
    """Run the reference on an example, as deep as it asks."""
    deep = example.depth != OUTPUT_ONLY
    truth, plain = (reference.heard(example, x, deep=deep) for x in ("float64", "float32"))
    local = None
    if example.depth == FORCED:
        local = reference.record(example, "float64", fed=plain.to_feed)
    return Trace(example, truth, plain, local, lambda: reference.floors(example, deep=deep))


# Both sides ---------------------------------------------------------------------------------------


@dataclass
class Outputs:
    """For the task, what came out: (example, truth, reference, candidate); or why nothing did."""

    rows: list[roles.Row] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def labelled(self) -> list[roles.Row]:
        return [row for row in self.rows if row[0].labels]


def taps_of(traced: Trace, candidate: Candidate, kept: Outputs | None = None) -> Iterator[Tap]:
    """Run the candidate on a traced example: every seam, one at a time."""
    kept = kept if kept is not None else Outputs()
    name = traced.example.name
    outputs, error = candidate.try_run(traced.example)
    if error:
        kept.errors[name] = error
    elif OUTPUT in outputs:
        truth, plain = traced.truth.outputs[OUTPUT], traced.plain.outputs[OUTPUT]
        kept.rows.append((traced.example, truth, plain, outputs[OUTPUT]))
    for tap in dict.fromkeys([*traced.plain.final_outputs, *outputs]):
        yield _tap(traced, tap, outputs.get(tap))
    if traced.example.depth != OUTPUT_ONLY:
        yield from _free(traced, candidate, kept)
        if candidate.takes_features:
            outputs, error = candidate.try_features(traced.example)
            if error:
                kept.errors[f"{name}, features"] = error
            yield _tap(traced, OUTPUT, outputs.get(OUTPUT), FEATURES)
    if traced.local is not None:
        yield from _forced(traced, traced.local, candidate, kept)


def _free(traced: Trace, candidate: Candidate, kept: Outputs) -> Iterator[Tap]:
    recorded = candidate.record(traced.example)
    if recorded.error:
        kept.errors[traced.example.name] = recorded.error
    plain = traced.plain.outputs
    for tap in dict.fromkeys([*plain, *_strangers(recorded, plain, candidate)]):
        shown = f"{RECORDED}{tap.removeprefix(OUTPUT)}" if is_output(tap) else tap
        yield _tap(traced, tap, recorded.outputs.pop(tap, None), shown)


def _strangers(
    recorded: Recording, plain: Mapping[str, Array], candidate: Candidate
) -> Iterator[str]:
    """Layers that the reference has not; what only holds others need have no counterpart."""
    return (tap for tap in recorded.outputs if tap not in plain and candidate.is_layer(tap))


def _tap(traced: Trace, tap: str, got: Array | None, shown: str = "") -> Tap:
    """A tap of a free run.

    With what PyTorch does to itself there, where all is looked at or the port looks noisy.
    """
    truth, plain = traced.truth.outputs.get(tap), traced.plain.outputs.get(tap)
    found = Tap(shown or tap, truth, plain, got, input=traced.example.name)
    arrays = found.arrays
    if len(arrays) < len(SIDES) or arrays["candidate"].shape != arrays["truth"].shape:
        return found
    looked_at = traced.measured or traced.example.depth == FORCED
    if not looked_at and noise_ratio(*arrays.values()) <= QUIET:
        return found
    return replace(found, floors=[one[tap] for one in traced.floors.values() if tap in one])


def _forced(traced: Trace, local: Recording, candidate: Candidate, kept: Outputs) -> Iterator[Tap]:
    """Every layer on the reference's own input, and what reaches a layer from those before it."""
    recorded = candidate.record(traced.example, fed=traced.plain.to_feed)
    name = traced.example.name
    if recorded.error:
        kept.errors[f"{name}, forced"] = recorded.error
    truth, plain, got = local.taps, traced.plain.taps, recorded.taps
    strangers = _strangers(recorded, plain, candidate)
    for tap in dict.fromkeys([*traced.plain.order, *strangers]):
        yield Tap(tap, truth.get(tap), plain.get(tap), got.get(tap), (), "forced", name)


def compare_traces(
    traces: Iterable[Trace],
    candidate: Candidate,
    limits: Limits,
    *,
    order: Sequence[str] | None = None,
    kept: Outputs | None = None,
) -> Verdict:
    """One candidate against what the reference said, the task included."""
    kept, ends = kept if kept is not None else Outputs(), dict[str, None]()

    def taps() -> Iterator[Tap]:
        for one in traces:
            ends.update(dict.fromkeys(one.plain.final_outputs))
            yield from taps_of(one, candidate, kept)

    verdict = judge_taps(taps(), limits, outputs=ends.keys(), order=order)
    if not (rows := kept.labelled):
        return verdict
    if (task := roles.named(limits.family).task) is None:
        return verdict
    try:
        return verdict.with_task(task(rows, candidate.network.config))
    except ShapeMismatchError:
        return verdict  # a limit on a figure that is not there is broken


def order_of(reference: Reference, examples: Sequence[Example]) -> list[str]:
    """Every tap that these examples must have, as the reference computes them."""
    depths = {one.depth for one in examples}
    deep = depths - {OUTPUT_ONLY}
    if not deep:
        return [OUTPUT]
    smallest = min((one for one in examples if one.depth in deep), key=lambda x: x.size)
    seen = reference.record(smallest)
    order = seen.order if FORCED in depths else list(seen.outputs)
    return [*order, RECORDED]
