"""Where the time of a pipeline goes, on one core, beside the least that it would need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from samevoice.bench.rows import Left, Machine, Row, Series, Work
from samevoice.bench.workers import Contender, once_each

if TYPE_CHECKING:
    from samevoice.bench.parts import Plan

PART, OURS = "limits", "samevoice"
ONE_CORE = {"OMP_NUM_THREADS": "1"}
TIERS: Mapping[str, bool] = {"exact": False, "--fast": True}


def limits(plan: Plan) -> Iterator[Row | Left]:
    """The machine first, then a pipeline's exact and its fast tier, stage by stage."""
    if plan.device != "cpu":
        yield Left(PART, "it measures CPUs: leave --device out")
        return
    found = once_each([Contender("machine", "machine", {})], 1)["machine"].found
    machine = Machine(found["flops"], found["bandwidth"])
    yield from _machine(found)
    bundle = plan.material.usual_bundle
    with plan.material.recording(min(plan.size.minutes)) as audio:
        options = {"bundle": str(bundle), "audio": str(audio), "runs": plan.size.runs}
        for tier, fast in TIERS.items():
            # As each process of a pipeline that has several cores.
            contender = Contender(OURS, "anatomy", {**options, "fast": fast}, ONE_CORE)
            yield from _rows(bundle.name, tier, once_each([contender], 1)[OURS].found, machine)


def _machine(found: Mapping[str, Any]) -> Iterator[Row]:
    for what, flop, seconds in found["products"]:
        yield Row(PART, what, Series(OURS, (seconds,)), work=Work(flop, 0.0))
    for what, nbytes, seconds in found["copies"]:
        said = f"{nbytes / seconds / 1e9:.0f} GB/s"
        yield Row(PART, what, Series(OURS, (seconds,)), said=said, work=Work(0.0, nbytes))


def _rows(name: str, tier: str, found: Mapping[str, Any], machine: Machine) -> Iterator[Row]:
    """Seconds and work are those of a chunk."""
    chunks, stages, parts = found["chunks"], found["stages"], found["parts"]
    whole = sum(stages.values())

    def row(what: str, seconds: float, work: Sequence[float], said: str = "") -> Row:
        flop, nbytes = (one / chunks for one in work)
        spent = Series(OURS, (seconds / chunks,))
        return Row(PART, what, spent, said=said, work=Work(flop, nbytes, seconds / whole, machine))

    def total(*which: str) -> list[float]:
        rows = [part for stage in which for part in parts.get(stage, ())]
        return [sum(part[k] for part in rows) for k in (2, 3)]

    yield row(tier, whole, total(*stages), f"{name}, {chunks} chunks")
    for stage, seconds in stages.items():
        yield row(f"  {stage}", seconds, total(stage))
        for part, share, *work in parts.get(stage, ()):
            yield row(f"    {part}", share * seconds, work)
