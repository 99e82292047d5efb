"""The whole comparison of a bundle with its source: both frameworks, every input, one result.

``run`` compares one network, ``run_parts`` a bundle of any kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice import family
from samevoice.converters import bundle as bundles
from samevoice.converters import convert, rules
from samevoice.models import backend
from samevoice.parity import details as drawn
from samevoice.parity import identity, roles
from samevoice.parity import inputs as inputs_module
from samevoice.parity import result as results
from samevoice.parity.bounds import Override
from samevoice.parity.engine import Outputs, Trace, compare_traces, order_of, trace
from samevoice.parity.identity import ParityError
from samevoice.parity.inputs import FORCED, Example
from samevoice.parity.judge import Tap, Verdict, judge_taps
from samevoice.parity.limits import limits_for
from samevoice.parity.metrics import Array
from samevoice.parity.reproduction import REPRODUCTION, RESULT, saved
from samevoice.parity.result import Artefact, Cause, Result

if TYPE_CHECKING:
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.reference import Reference

Progress = Callable[[str, int, int], None]  # what was compared, inputs done, inputs in all

PIPELINE = "pipeline"  # the part of a bundle that is all of them together
FAST = results.FAST  # the same in its fast configuration, which is no proof of the exact one


def run_parts(
    bundle: str | Path,
    source: str | Path,
    *,
    output: str | Path | None = None,
    only: Sequence[str] = (),
    references: Sequence[str | Path] = (),
    fast: bool = False,
    **options: Any,
) -> dict[str, Result]:
    """A bundle of any kind: part -> result; a single model is the part "".

    Of a whole pipeline the last part, "pipeline", is all of it against pyannote's own, where
    ``references`` may tell who really speaks in the recordings. ``only`` names what to compare.
    ``fast`` compares the pipeline's fast configuration instead, as the part "fast".
    """
    folder, found = Path(bundle), {}
    for name in part_names(folder, only, fast=fast, references=references):
        where = None if output is None else Path(output) / name
        if name in (PIPELINE, FAST):
            from samevoice.parity.pipeline import compare

            found[name] = compare.run(
                folder, source, output=where, references=references, fast=fast, **options
            )
            continue
        config = bundles.read_json(folder / name / bundles.CONFIG)
        is_data = family.named(config.get("architecture")).is_data
        comparing = _run_data if is_data else run
        found[name] = comparing(folder / name, source, output=where, **options)
    return found


def part_names(
    folder: Path,
    only: Sequence[str] = (),
    *,
    fast: bool = False,
    references: Sequence[str | Path] = (),
) -> list[str]:
    """The components, then the pipeline as a whole; of these the ones that are asked for."""
    config = bundles.read_json(folder / bundles.CONFIG)
    parts = bundles.components(config)
    if not parts:
        if only or fast or references:
            raise ParityError(
                f"{folder} is a {config.get('model_type')}: parts, RTTM references and the fast "
                "tier belong to a pipeline"
            )
        return [""]
    if fast and (strangers := [name for name in only if name != PIPELINE]):
        raise ParityError(f"the fast tier is of the whole pipeline, not of {strangers[0]!r}")
    if fast:
        return [FAST]
    names = [*sorted(parts, reverse=True), PIPELINE]
    if strangers := [name for name in only if name not in names]:
        raise ParityError(f"{folder} has no part {strangers[0]!r}: one of {', '.join(names)}")
    return [name for name in names if not only or name in only]


# Data ---------------------------------------------------------------------------------------------


def _run_data(
    bundle: str | Path,
    source: str | Path,
    *,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    revision: str | None = None,
    **unused: Any,
) -> Result:
    """No network: every array is the source's, to the last bit."""
    del unused
    folder = Path(bundle)
    role = str(bundles.read_json(folder / bundles.CONFIG)["model_type"])
    part = identity.part_of(folder, role, source, revision)
    theirs = dict(rules.convert(part.plan))
    ours = {name: tensor.load() for name, tensor in bundles.read_weights(folder).items()}
    limits = limits_for("generic", "float32", "cpu")
    exactly = Override("max_abs", 0.0, origin="arrays that are copied must be equal")
    taps = (
        Tap(name, theirs.get(name), theirs.get(name), ours.get(name))
        for name in dict.fromkeys([*theirs, *ours])
    )
    made = _result(
        judge_taps(taps, limits.overridden([exactly])),
        folder,
        part,
        command=command or ("samevoice", "parity", str(folder), "--source", str(source)),
        details=_tensors(folder),
    )
    if output is not None:
        results.write(Path(output) / RESULT, made)
    return made


def _result(verdict: Verdict, folder: Path, part: convert.Part, **said: Any) -> Result:
    note = part.checkpoint.metadata.get("note")
    return Result.of(
        verdict,
        model_type=part.family.role,
        source=identity.artefact_of(part.source, part.source_hashes, str(note or "")),
        bundle=Artefact(identity.fingerprint(folder), {"name": folder.resolve().name}),
        versions=identity.versions(),
        **said,
    )


# A network ----------------------------------------------------------------------------------------


def run(
    bundle: str | Path,
    source: str | Path,
    *,
    inputs: roles.Set | Sequence[Example] = roles.QUICK,
    audio: Sequence[str | Path] = (),
    device: backend.Choice = "auto",
    overrides: Iterable[Override] = (),
    progress: Progress = lambda what, done, total: None,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    revision: str | None = None,
) -> Result:
    """Compare the bundle of one network with the checkpoint that it was made from.

    ``inputs`` names a set or lists examples, ``audio`` adds recordings. ``output``: for the result.
    """
    folder, asked, started = Path(bundle), tuple(overrides), time.monotonic()
    candidate, reference, part = _both_sides(folder, source, device, revision)
    given, chosen = _examples(candidate, inputs, audio)
    dtype = identity.dtype_of(candidate.network.config)
    limits = limits_for(part.family.role, dtype, identity.device_of(candidate))
    loaded, kept = time.monotonic(), Outputs()
    traces = _traces(reference, chosen, progress)
    if output is not None:
        traces = _with_golden(Path(output), traces, reference, part, given)
    order, limits = order_of(reference, chosen), limits.overridden(asked)
    with closing(traces):  # whatever stops this, no golden data stay half written
        verdict = compare_traces(traces, candidate, limits, order=order, kept=kept)
    seconds = {"load": loaded - started, "compare": time.monotonic() - loaded}
    made = _result(
        verdict,
        folder,
        part,
        inputs=[one.described() for one in chosen],
        command=command or identity.command_of(folder, source, inputs, audio, device, asked),
        details=_details(folder, candidate, kept, seconds),
        cause=_cause(verdict, chosen, reference, candidate, part),
    )
    return saved(made, verdict, chosen, reference, candidate, output)


def _both_sides(
    folder: Path, source: str | Path, device: backend.Choice, revision: str | None
) -> tuple[Candidate, Reference, convert.Part]:
    """The port, and the original with the weights of the very checkpoint it was made from."""
    config = bundles.read_json(folder / bundles.CONFIG)
    if bundles.components(config) or family.named(config.get("architecture")).is_data:
        raise ParityError(
            f"{folder} holds a {config.get('model_type')}: run() compares one network, "
            "run_parts() whole bundles"
        )
    part = identity.part_of(folder, config["model_type"], source, revision)
    identity.check_settings(config, part.config, folder)
    identity.strict_float32()
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.reference import Reference

    return Candidate.load(folder, device), Reference.load(part), part


def _examples(
    candidate: Candidate, inputs: roles.Set | Sequence[Example], audio: Sequence[str | Path]
) -> tuple[list[Example], list[Example]]:
    """The recordings that were given, and all examples."""
    network = candidate.network
    chosen = roles.examples(network, inputs) if isinstance(inputs, str) else inputs
    if not audio:
        return [], [*chosen]
    kind = network.config["model_type"]
    if not network.hears_audio:
        raise ParityError(f"a {kind} takes no recordings: leave out --audio")
    shortest = inputs_module.shortest_for(network.num_frames)
    given = inputs_module.from_audio(audio, shortest, roles.named(kind).labels)
    return given, [*chosen, *given]


def default_examples(
    bundle: str | Path, chosen: roles.Set = roles.QUICK, speech: Array | None = None
) -> list[Example]:
    """What ``run`` feeds a bundle unless told otherwise."""
    from samevoice.models.registry import build

    config = bundles.read_json(Path(bundle) / bundles.CONFIG)
    kind = str(config.get("model_type"))
    if roles.named(kind).examples is None:
        raise ParityError(f"{bundle} is a {kind}: golden data are saved of one network at a time")
    return roles.examples(build(config), chosen, speech)


def _traces(
    reference: Reference, examples: Sequence[Example], progress: Progress
) -> Generator[Trace, None, None]:
    for done, example in enumerate(examples):
        progress(example.name, done, len(examples))
        yield trace(reference, example)
    progress("", len(examples), len(examples))


def _with_golden(
    output: Path,
    traces: Iterator[Trace],
    reference: Reference,
    part: convert.Part,
    private: Sequence[Example],
) -> Generator[Trace, None, None]:
    """The outputs are kept beside the result: a release shows with them that it works elsewhere."""
    from samevoice.parity import golden

    return golden.along(
        output / golden.FOLDER,
        traces,
        partial(reference.floors, deep=False),
        private={one.name for one in private},
        model_type=part.family.role,
        source_sha256=convert.fingerprint(part.source_hashes),
        versions=identity.versions(),
    )


# What the result says beside the verdict ----------------------------------------------------------


def _tensors(folder: Path) -> dict[str, Any]:
    return {"tensors": drawn.tensors(bundles.read_json(folder / bundles.PROVENANCE))}


def _details(
    folder: Path, candidate: Candidate, kept: Outputs, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What plots show, and what the verdict's own figures do not say."""
    import torch

    network, rows, at = candidate.network, [], 0
    for example, _, _, got in kept.labelled:
        count = got.size // got.shape[-1]
        rows.append([example.name, at, at + count])
        at += count
    own = {}
    if draw := roles.named(network.config["model_type"]).drawn:
        rate = int(network.config.get("sample_rate", inputs_module.RATE))
        first, second = (network.receptive_field_center(k) / rate for k in (0, 1))
        own = draw(kept.labelled, network.config, first, second - first)
    return {
        "device": candidate.device_name,
        "torch_threads": torch.get_num_threads(),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "errors": kept.errors,
        "task_rows": rows,  # which rows of the task's tables are whose
        "scatter": drawn.scatter({example.name: (x, y) for example, _, x, y in kept.rows}),
        **own,
        **_tensors(folder),
    }


def _cause(
    verdict: Verdict,
    examples: Sequence[Example],
    reference: Reference,
    candidate: Candidate,
    part: convert.Part,
) -> Cause | None:
    """What is proven to be wrong at the first divergence, from the shortest input that shows it."""
    from samevoice.parity import causes

    short = sorted(examples, key=lambda one: one.size)
    inputs = {tap.input for tap in verdict.failed if tap.name == verdict.first_divergence}
    traces = (trace(reference, replace(x, depth=FORCED)) for x in short if x.name in inputs)
    return causes.proven(verdict, traces, reference, candidate, causes.Source(part))


def sentence(result: Result, output: str | Path | None = None) -> str:
    """The verdict in one line, as the command line ends with it."""
    if result.passed:
        worst = max(tap.judged_ratio for tap in result.taps)
        return (
            f"{result.model_type}: {len(result.taps)} taps agree, noise_ratio at most {worst:.3g}"
        )
    failed = result.verdict.failed
    if not failed:
        return f"{result.model_type}: {result.verdict.task_reasons[0]}"
    first = failed[0]
    where = "" if output is None else f"; reproduction in {Path(output) / REPRODUCTION}"
    why = f"; proven cause: {result.cause.bug}" if result.cause else ""
    if not why and (errors := result.details.get("errors")):
        why = f"; the port broke off: {next(iter(errors.values()))}"
    return f"{result.model_type} diverges first at {first.label}: {first.reasons[0]}{why}{where}"
