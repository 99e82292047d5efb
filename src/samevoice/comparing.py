"""The commands that compare: parity of a bundle, the gallery, two dumps, the gate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samevoice import outputs
from samevoice.errors import NotPassedError

if TYPE_CHECKING:
    from samevoice.parity.gallery import Finding
    from samevoice.parity.inputs import Example
    from samevoice.parity.limits import Override
    from samevoice.parity.result import Result

# typer carries its own copy of click, whose usage errors it exports only through this subclass.
UsageError: Any = typer.BadParameter.__base__

LimitsFile = Annotated[
    Path | None,
    typer.Option("--limits", metavar="FILE", help="A TOML file with a \\[limits] table."),
]
LimitFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", metavar="M=X", help="One limit: noise_ratio=5, or lstm.0:noise_ratio=5."
    ),
]


Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace files that are no such results, too."),
]


class Inputs(StrEnum):
    quick = "quick"
    full = "full"


class Device(StrEnum):
    auto = "auto"
    gpu = "gpu"
    cpu = "cpu"


def parity(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What convert made.")],
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The checkpoint that it was made from.")
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option("--input", metavar="AUDIO", help="A recording to compare on as well."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where result.json goes. [dim]\\[default: BUNDLE-parity][/]"
        ),
    ] = None,
    inputs: Annotated[Inputs, typer.Option(help="How much both are fed.")] = Inputs.quick,
    device: Annotated[Device, typer.Option(help="What MLX runs on.")] = Device.auto,
    golden: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Compare with saved outputs of torch, without torch."),
    ] = None,
    save_golden: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save torch's outputs for --golden.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(metavar="RTTM", help="Who really speaks in an --input of a pipeline."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART", help="segmentation, embedding, plda or pipeline, of a whole one."
        ),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Judge diarize --fast: a result apart, no proof for a release."
        ),
    ] = False,
    limits: LimitsFile = None,
    limit: LimitFlags = None,
    overwrite: Overwrite = False,
) -> None:
    """Run both frameworks on the same inputs, and judge every layer against float64."""
    if (source is None) == (golden is None):
        raise UsageError("parity needs --source SOURCE, or --golden DIR, and not both")
    if golden is not None:
        given = {"--input": audio, "--save-golden": save_golden, "--output": output}
        _refuse_with_golden({**given, "--reference": reference, "--only": only, "--fast": fast})
        _replay(bundle, golden, device, overrides(limits, limit))
        return
    where = output or bundle.parent / f"{bundle.name}-parity"
    read = [bundle, source, *(audio or []), *(reference or []), *([limits] if limits else [])]
    targets = _targets(bundle, where, only or [], fast)
    targets += [(save_golden, "golden")] if save_golden is not None else []
    outputs.refuse(targets, inputs=[one for one in read if one is not None], overwrite=overwrite)
    examples = _examples_to_save(bundle, str(source), inputs) if save_golden is not None else []
    results = _compared(
        bundle,
        str(source),
        where,
        inputs=inputs.value,
        audio=audio or [],
        device=device.value,
        overrides=overrides(limits, limit),
        references=reference or [],
        only=only or [],
        fast=fast,
    )
    if save_golden is not None:
        _save_golden(str(source), save_golden, examples)
    for part, result in results.items():
        if not result.passed:
            from samevoice.parity.run import sentence

            raise NotPassedError(sentence(result, where / part))


def _targets(bundle: Path, output: Path, only: list[str], fast: bool) -> list[outputs.Target]:
    """Whatever a comparison may write below ``output``."""
    from samevoice.parity import golden, run
    from samevoice.reports.write import targets

    return [
        target
        for folder in (output / name for name in run.part_names(bundle, only, fast=fast))
        for target in (
            (folder / run.RESULT, run.RESULT),
            (folder / run.REPRODUCTION, "reproduction"),
            (folder / golden.FOLDER, "golden"),
            *targets(folder),
        )
    ]


def _refuse_with_golden(given: dict[str, object]) -> None:
    for flag, value in given.items():
        if value:
            raise UsageError(f"{flag} does not go with --golden, which holds its own inputs")


def _compared(bundle: Path, source: str, output: Path, **options: Any) -> dict[str, Result]:
    """Run, show each part's verdict, and say where the results lie."""
    from samevoice import reporting, terminal, verdicts
    from samevoice.parity.run import run_parts

    with terminal.progress("comparing") as advance:
        results = run_parts(bundle, source, output=output, progress=advance, **options)
    console = terminal.console()
    for part, result in results.items():
        title = f"{bundle / part}: {result.model_type}, {result.dtype} on {result.device}"
        verdicts.show(console, result.verdict, title, cause=result.cause)
        if "diarization" in result.task:
            from samevoice.parity.diarization import sentence as outcome

            console.print(f"  {outcome(result)}", soft_wrap=True, markup=False)
        console.print(f"  result: {output / part / 'result.json'}", soft_wrap=True, markup=False)
        if "reproduction" in result.details:
            where = output / part / str(result.details["reproduction"])
            console.print(f"  reproduction: {where}", soft_wrap=True, markup=False)
    reporting.write_beside(console, results, output)
    return results


def _examples_to_save(bundle: Path, source: str, inputs: Inputs) -> list[Example]:
    """Before any work, as whole pipelines are refused."""
    from samevoice.parity import golden, run

    golden.network_of(source)
    return run.default_examples(bundle, inputs.value)


def _save_golden(source: str, folder: Path, examples: list[Example]) -> None:
    from samevoice import terminal
    from samevoice.parity import golden

    golden.make(folder, source, examples)
    terminal.console().print(f"  golden: {folder}", soft_wrap=True, markup=False)


def _replay(bundle: Path, golden: Path, device: Device, asked: list[Override]) -> None:
    from samevoice import terminal, verdicts
    from samevoice.parity.golden import replay

    verdict = replay(bundle, golden, device=device.value, overrides=asked)
    verdicts.show(terminal.console(), verdict, f"{bundle} against {golden}")
    if not verdict.passed:
        raise NotPassedError(f"{bundle} does not pass: {verdict.reasons[0]}")


def gallery(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Networks to spoil. [dim]\\[default: both reference networks][/]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table as Markdown, too.")
    ] = None,
    prove: Annotated[
        bool,
        typer.Option("--prove", help="Prove each cause, too, and those of 40 pairs of bugs."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Inject every known bug into a right port, and see that the harness finds each."""
    from samevoice import places, terminal, verdicts
    from samevoice.parity import gallery_file
    from samevoice.parity.gallery import examine, examine_pairs
    from samevoice.parity.run import versions

    chosen = sources or ["reference:segmentation", "reference:embedding"]
    if output is not None:
        beside = output.with_suffix(".json")
        if beside == output:
            raise UsageError(f"--output {output} is the table's: name an .md, the JSON goes beside")
        both = [(output, "gallery.md"), (beside, "gallery.json")]
        outputs.refuse(both, inputs=chosen, overwrite=overwrite)
    findings: dict[str, list[Finding]] = {}
    pairs: dict[str, list[Finding]] = {}
    for source in chosen:
        with terminal.progress("spoiling") as advance:
            findings[source] = examine(source, prove=prove, progress=advance)
            if prove:
                pairs[source] = examine_pairs(source, progress=advance)
    console = terminal.console()
    for source, found in findings.items():
        verdicts.gallery(console, source, found)
        if prove:
            console.print(verdicts.proofs(found, "bugs"))
            console.print(verdicts.proofs(pairs[source], "pairs of bugs"))
    if output is not None:
        table = verdicts.gallery_markdown(findings, pairs)
        places.write({output: table, beside: gallery_file.written(findings, versions())})
    wrong = [one for found in findings.values() for one in found if not one.right]
    if wrong:
        first = wrong[0]
        raise NotPassedError(
            f"{len(wrong)} bugs were not found where they sit, first {first.bug!r}: expected "
            f"at {first.where or 'no tap'!r}, found at {first.found or 'no tap'!r}"
        )


def judge(
    reference: Annotated[Path, typer.Argument(metavar="REF", help=".safetensors or .npz")],
    candidate: Annotated[Path, typer.Argument(metavar="GOT", help=".safetensors or .npz")],
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same arrays in float64: errors count from there."),
    ] = None,
    limits: LimitsFile = None,
    limit: LimitFlags = None,
) -> None:
    """Compare two dumps of named arrays, from any two frameworks."""
    from samevoice import terminal, verdicts
    from samevoice.parity.dumps import open_dump
    from samevoice.parity.judge import judge as judged
    from samevoice.parity.limits import limits_for

    ours, theirs = open_dump(candidate), open_dump(reference)
    family = "dump" if truth is None else "generic"
    chosen = limits_for(family, "float32", "cpu").overridden(overrides(limits, limit))
    exact = theirs if truth is None else open_dump(truth)
    verdict = judged(exact, theirs, ours, chosen)
    verdicts.show(terminal.console(), verdict, f"{reference.name} / {candidate.name}")
    if not verdict.passed:
        raise NotPassedError(f"{candidate} does not pass: {verdict.reasons[0]}")


def overrides(file: Path | None, flags: list[str] | None) -> list[Override]:
    """The limits of the file, then those of the flags, which win."""
    from samevoice.parity.limits import parse_override, read_overrides

    asked = read_overrides(file) if file else []
    return [*asked, *(parse_override(text) for text in flags or [])]


def _fingerprints(bundles: list[Path]) -> set[str]:
    """The hashes that results of these bundles, or of the parts of a pipeline, must name."""
    from samevoice.converters.bundle import CONFIG, read_json
    from samevoice.parity.run import fingerprint

    parts = [(path, ["", *read_json(path / CONFIG).get("components", [])]) for path in bundles]
    return {fingerprint(path / name) for path, names in parts for name in names}


def gate(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="result.json files")],
    bundle: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Only a result of this very bundle counts."),
    ] = None,
    allow_loosened: Annotated[
        bool,
        typer.Option("--allow-loosened", help="Let results pass whose limits were set looser."),
    ] = False,
) -> None:
    """Exit 0 if every result is green, 1 if any is not: for CI."""
    from samevoice import terminal, verdicts
    from samevoice.parity.result import FAST, read

    shipped = _fingerprints(bundle or [])
    console = terminal.console()
    refused = []
    for path in results:
        found = read(path)
        why = verdicts.line(console, path, found)
        if found.loosened and found.passed and not allow_loosened:
            why = f"limits were loosened: {found.loosened[0]}; --allow-loosened accepts that"
        if bundle and found.bundle.sha256 not in shipped:
            why = "it is of another bundle, or the bundle was changed since"
        elif bundle and found.model_type == FAST:
            why = "it is of the fast configuration, which proves nothing of the bundle as it is"
        if why:
            refused.append(f"{path}: {why}")
    if refused:
        raise NotPassedError(
            f"{len(refused)} of {len(results)} results do not pass, first {refused[0]}"
        )
