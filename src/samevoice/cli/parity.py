"""The commands that compare: parity, replay, gate, gallery and judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from samevoice import outputs
from samevoice.cli import report, terminal, verdicts
from samevoice.cli.options import (
    Bundle,
    Limits,
    LimitsFile,
    OnDevice,
    Overwrite,
    UsageError,
    argument,
    choice,
    flag,
    option,
)
from samevoice.errors import NotPassedError

EVALUATION = "evaluation.json"

if TYPE_CHECKING:
    from samevoice.parity.bounds import Override
    from samevoice.parity.gallery import Finding
    from samevoice.parity.inputs import Example
    from samevoice.parity.judge import Verdict
    from samevoice.parity.result import Result


Inputs: TypeAlias = Literal["brief", "quick", "full"]


def parity(
    bundle: Bundle,
    source: Annotated[str, option("SOURCE", "The checkpoint that the bundle was made from.")],
    audio: Annotated[list[Path] | None, option("FILE", "Compare on this recording too.")] = None,
    output: Annotated[
        Path | None, option("DIR", "Folder for result.json.", default="BUNDLE-parity")
    ] = None,
    inputs: Annotated[Inputs, choice("How many inputs to compare on.")] = "quick",
    device: OnDevice = "auto",
    save_golden: Annotated[
        Path | None, option("DIR", "Save PyTorch's outputs for replay --golden.")
    ] = None,
    reference: Annotated[
        list[Path] | None, option("RTTM", "Who really speaks in the --audio of a pipeline.")
    ] = None,
    only: Annotated[
        list[str] | None,
        option("PART", "Compare only this part: segmentation, embedding, plda or pipeline."),
    ] = None,
    fast: Annotated[
        bool, flag("--fast", "Compare diarize --fast; a release needs the exact result.")
    ] = False,
    limits: LimitsFile = None,
    limit: Limits = None,
    overwrite: Overwrite = False,
) -> None:
    """Run PyTorch and MLX on the same inputs and judge every layer against float64."""
    from samevoice.parity import golden
    from samevoice.parity.run import run_parts, sentence

    where = output or bundle.parent / f"{bundle.name}-parity"
    audio, reference, only = audio or [], reference or [], only or []
    read: list[str | Path] = [bundle, source, *audio, *reference, *([limits] if limits else [])]
    targets = _targets(bundle, where, only, fast)
    targets += [(save_golden, "golden")] if save_golden else []
    outputs.refuse(targets, inputs=read, overwrite=overwrite)
    examples = _examples_to_save(bundle, source, inputs) if save_golden else []
    with terminal.progress("comparing") as advance:
        results = run_parts(
            bundle,
            source,
            output=where,
            inputs=inputs,
            audio=audio,
            device=device,
            overrides=_overrides(limits, limit),
            references=reference,
            only=only,
            fast=fast,
            progress=advance,
        )
    for part, result in results.items():
        _show(bundle / part, where / part, result)
    report.write_beside(results, where)
    if save_golden is not None:
        golden.make(save_golden, source, examples)
        terminal.say(f"  golden: {save_golden}")
    for part, result in results.items():
        if not result.passed:
            raise NotPassedError(sentence(result, where / part))


def _targets(bundle: Path, output: Path, only: list[str], fast: bool) -> list[outputs.Target]:
    """Whatever a comparison may write below ``output``."""
    from samevoice.parity import golden, run
    from samevoice.parity.reproduction import REPRODUCTION, RESULT
    from samevoice.reports.write import targets

    found: list[outputs.Target] = []
    for folder in (output / name for name in run.part_names(bundle, only, fast=fast)):
        found += [
            (folder / RESULT, RESULT),
            (folder / REPRODUCTION, "reproduction"),
            (folder / golden.FOLDER, "golden"),
            *targets(folder),
        ]
    return found


def _show(bundle: Path, folder: Path, result: Result) -> None:
    from samevoice.parity.reproduction import RESULT

    title = f"{bundle}: {result.model_type}, {result.dtype} on {result.device}"
    verdicts.show(result.verdict, title, cause=result.cause)
    if "diarization" in result.task:
        from samevoice.parity.pipeline.compare import sentence

        terminal.say(f"  {sentence(result)}")
    terminal.say(f"  result: {folder / RESULT}")
    if "reproduction" in result.details:
        terminal.say(f"  reproduction: {folder / str(result.details['reproduction'])}")


def _examples_to_save(bundle: Path, source: str, inputs: Inputs) -> list[Example]:
    """Before any work, as whole pipelines are refused."""
    from samevoice.parity import golden, run

    golden.network_of(source)
    return run.default_examples(bundle, inputs)


def replay(
    bundle: Bundle,
    golden: Annotated[Path, option("DIR", "The folder that parity --save-golden wrote.")],
    device: OnDevice = "auto",
    limits: LimitsFile = None,
    limit: Limits = None,
) -> None:
    """Compare a bundle with PyTorch's saved outputs, without PyTorch."""
    from samevoice.parity.replay import replay as run

    verdict = run(bundle, golden, device=device, overrides=_overrides(limits, limit))
    _judged(verdict, f"{bundle} against {golden}", bundle)


def gate(
    results: Annotated[
        list[Path], argument("RESULT...", "result.json files, or evaluation.json with --limit.")
    ],
    bundle: Annotated[
        list[Path] | None, option("DIR", "Accept results of this exact bundle only.")
    ] = None,
    allow_loosened: Annotated[
        bool, flag("--allow-loosened", "Accept results whose limits were loosened.")
    ] = False,
    limit: Annotated[
        list[str] | None,
        option("NAME=X", "Most points for an evaluation: der_increase=0.2 (docs/evaluation.md)."),
    ] = None,
) -> None:
    """Exit 0 if every result is green and 1 if any is red: for CI."""
    from samevoice.parity.result import FAST, read

    evaluations = [path for path in results if _is_evaluation(path)]
    if bool(limit) != bool(evaluations):
        raise UsageError(
            f"{evaluations[0]} is gated by limits: pass --limit der_increase=0.2, say"
            if evaluations
            else "--limit goes with an evaluation.json; parity's results hold their own limits"
        )
    if bundle and evaluations:
        raise UsageError(f"--bundle does not go with {evaluations[0]}, which says what it is of")
    fingerprints, refused = _fingerprints(bundle or []), []
    for path in results:
        if path in evaluations:
            refused += verdicts.evaluation(path, limit or [])
            continue
        found = read(path)
        why = verdicts.line(path, found)
        if found.loosened and found.passed and not allow_loosened:
            why = f"limits were loosened: {found.loosened[0]}; --allow-loosened accepts that"
        if bundle and found.bundle.sha256 not in fingerprints:
            why = "it is of another bundle, or the bundle was changed since"
        elif bundle and found.model_type == FAST:
            why = "it is of the fast configuration, and says nothing about the exact one"
        if why:
            refused.append(f"{path}: {why}")
    if refused:
        raise NotPassedError(
            f"{len(refused)} of {len(results)} results do not pass, first {refused[0]}"
        )


def _is_evaluation(path: Path) -> bool:
    """Whether it begins as one."""
    return path.is_file() and bool(path.stat().st_size) and outputs.is_result(path, EVALUATION)


def _fingerprints(bundles: list[Path]) -> set[str]:
    """The hashes of these bundles and of the parts of pipelines: results must name one."""
    from samevoice.converters.bundle import CONFIG, components, read_json
    from samevoice.parity.identity import fingerprint

    parts = [(path, ["", *components(read_json(path / CONFIG))]) for path in bundles]
    return {fingerprint(path / name) for path, names in parts for name in names}


def gallery(
    sources: Annotated[
        list[str] | None,
        argument("[SOURCE]...", "Networks to put bugs into.", default="both reference networks"),
    ] = None,
    output: Annotated[Path | None, option("FILE", "Write the table as Markdown too.")] = None,
    prove: Annotated[
        bool, flag("--prove", "Prove the cause of each bug and of 40 pairs of bugs.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Put every known bug into a correct port and check that each one is found."""
    from samevoice.parity import gallery_file
    from samevoice.parity.gallery import examine, examine_pairs
    from samevoice.parity.identity import versions

    chosen = sources or ["reference:segmentation", "reference:embedding"]
    beside = _json_beside(output, chosen, overwrite)
    findings: dict[str, list[Finding]] = {}
    pairs: dict[str, list[Finding]] = {}
    for source in chosen:
        with terminal.progress("testing") as advance:
            findings[source] = examine(source, prove=prove, progress=advance)
            if prove:
                pairs[source] = examine_pairs(source, progress=advance)
    for source, found in findings.items():
        verdicts.gallery(source, found, pairs.get(source))
    if output is not None:
        table = verdicts.gallery_markdown(findings, pairs)
        outputs.write({output: table, beside: gallery_file.written(findings, versions())})
    wrong = [one for found in findings.values() for one in found if not one.right]
    if wrong:
        first = wrong[0]
        raise NotPassedError(
            f"{len(wrong)} bugs were not found where they sit, first {first.bug!r}: expected "
            f"at {first.where or 'no tap'!r}, found at {first.found or 'no tap'!r}"
        )


def _json_beside(output: Path | None, sources: list[str], overwrite: bool) -> Path:
    if output is None:
        return Path()
    beside = output.with_suffix(".json")
    if beside == output:
        raise UsageError(f"--output {output} is for the table: name an .md file")
    both = [(output, "gallery.md"), (beside, "gallery.json")]
    outputs.refuse(both, inputs=sources, overwrite=overwrite)
    return beside


def judge(
    reference: Annotated[Path, argument("REF", "A .safetensors or .npz file.")],
    candidate: Annotated[Path, argument("GOT", "A .safetensors or .npz file.")],
    truth: Annotated[
        Path | None, option("FILE", "The same arrays in float64, to measure both errors from.")
    ] = None,
    limits: LimitsFile = None,
    limit: Limits = None,
) -> None:
    """Compare two files of named arrays, from any two frameworks."""
    from samevoice.parity.dumps import open_dump
    from samevoice.parity.judge import judge as run
    from samevoice.parity.limits import limits_for

    got, theirs = open_dump(candidate), open_dump(reference)
    defaults = limits_for("dump" if truth is None else "generic", "float32", "cpu")
    exact = theirs if truth is None else open_dump(truth)
    verdict = run(exact, theirs, got, defaults.overridden(_overrides(limits, limit)))
    _judged(verdict, f"{reference.name} / {candidate.name}", candidate)


def _judged(verdict: Verdict, title: str, what: Path) -> None:
    verdicts.show(verdict, title)
    if not verdict.passed:
        raise NotPassedError(f"{what} does not pass: {verdict.reasons[0]}")


def _overrides(file: Path | None, flags: list[str] | None) -> list[Override]:
    """The limits of the file, then those of the flags, which win."""
    from samevoice.parity.bounds import parse_override, read_overrides

    asked = read_overrides(file) if file else []
    return [*asked, *(parse_override(text) for text in flags or [])]
