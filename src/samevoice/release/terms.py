"""What must be true before a bundle may be released: each term says why not, and what to run.

The terms read the bundle, its results and the gallery, and write nothing. ``Offer`` is what is to
be released; its ``refusals`` are all the reasons against it, in the order of ``TERMS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from samevoice.converters import bundle as bundles
from samevoice.converters.bundle import PROVENANCE, read_json
from samevoice.converters.reading.sources import is_name
from samevoice.errors import NotPassedError, SamevoiceError
from samevoice.evaluation import gate
from samevoice.evaluation.gate import Evaluated
from samevoice.parity import gallery_file
from samevoice.parity.gallery_file import Gallery
from samevoice.parity.limits import Loosened
from samevoice.release import corpora, evidence
from samevoice.release.corpora import Claim
from samevoice.release.parts import RESULT, Part, parts_of, settings_fault, strangers


class RefusedError(NotPassedError):
    """This bundle is not released."""


class OfferError(SamevoiceError):
    """What was asked for makes no sense: to accept a limit that nobody loosened, for example."""


@dataclass(frozen=True)
class Accepted:
    """A loosened limit that somebody answers for: ``noise_ratio``, or ``lstm.0:noise_ratio``."""

    limit: str
    because: str


@dataclass(frozen=True)
class Offer:
    """A bundle, what was measured of it, and what its owner answers for."""

    bundle: Path
    parts: tuple[Part, ...]  # the bundle as a whole is the last
    gallery_path: Path | None = None
    gallery: Gallery | None = None
    unread_gallery: str = ""
    accepted: tuple[Accepted, ...] = ()
    licence_ok: bool = False
    fast: bool = False  # the card offers the fast mode, too
    evaluations: tuple[tuple[Path, Evaluated], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.parts[-1].kind

    @property
    def networks(self) -> tuple[Part, ...]:
        """Each of these needs a gallery."""
        return tuple(part for part in self.parts if part.is_network)

    @property
    def sources(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.provenance["sources"]
        return found

    @cached_property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every reason against this release."""
        return tuple(
            Refusal(term.name, why, run) for term in TERMS for why, run in term.reasons(self)
        )

    @cached_property
    def measured(self) -> tuple[tuple[Claim, tuple[Path, Evaluated] | None], ...]:
        """What must be shown over a corpus, each with the evaluation that is of it, if any is."""
        whole, found = self.parts[-1], corpora.claims(self.parts, self.fast)
        return tuple((one, corpora.chosen(one, whole, self.evaluations)) for one in found)

    @property
    def shown(self) -> tuple[tuple[Claim, Evaluated], ...]:
        return tuple((claim, one[1]) for claim, one in self.measured if one is not None)

    @property
    def judged(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.result is not None)

    @property
    def loosened(self) -> tuple[tuple[Part, Loosened], ...]:
        return tuple((part, one) for part in self.judged for one in part.judged.loosened)


@dataclass(frozen=True)
class Refusal:
    """One reason, by the name of its term."""

    term: str
    why: str
    run: str  # what to do about it

    def __str__(self) -> str:
        return f"{self.why}: {self.run}"


# What is offered ----------------------------------------------------------------------------------


def offer(
    bundle: Path,
    given: Sequence[Path],
    *,
    gallery: Path | None = None,
    accepted: Iterable[Accepted] = (),
    licence_ok: bool = False,
    fast: bool = False,
    evaluations: Iterable[Path] = (),
) -> Offer:
    """Gather what ``given`` results, files or folders of them, say of this bundle."""
    provenance = read_json(bundle / PROVENANCE)
    paths = list(dict.fromkeys(result_files(given)))
    with bundles.understood(bundle / PROVENANCE):
        parts = tuple(parts_of(bundle, paths))
        gallery = gallery or find_gallery([*given, *paths])
        found = _read_gallery(gallery)
        made = Offer(
            bundle,
            parts,
            gallery,
            *found,
            tuple(accepted),
            licence_ok,
            fast,
            tuple(_evaluations(evaluations)),
            provenance,
        )
    _refuse_idle(made)
    return made


def result_files(given: Iterable[Path]) -> Iterator[Path]:
    """A file as it is; of a folder its result.json, and those in the folders below it."""
    for path in given:
        if not path.exists():
            raise OfferError(f"--result {path}: there is no such file or folder")
        if not path.is_dir():
            yield path
            continue
        if (path / RESULT).is_file():
            yield path / RESULT
        yield from sorted(path.glob(f"*/{RESULT}"))


def find_gallery(given: Sequence[Path]) -> Path | None:
    """The gallery that lies beside the results, or in one of the two folders above them."""
    for path in given:
        around = (path.resolve() / RESULT) if path.is_dir() else path.resolve()
        for folder in list(around.parents)[:3]:
            if (folder / gallery_file.NAME).is_file():
                return folder / gallery_file.NAME
    return None


def _evaluations(given: Iterable[Path]) -> Iterator[tuple[Path, Evaluated]]:
    """A file as it is; of a folder the evaluation in it."""
    for path in given:
        file = path / corpora.EVALUATION if path.is_dir() else path
        yield file, gate.read(file)


def _read_gallery(path: Path | None) -> tuple[Gallery | None, str]:
    if path is None:
        return None, ""
    try:
        return gallery_file.read(path), ""
    except SamevoiceError as error:
        return None, str(error)


def _refuse_idle(made: Offer) -> None:
    """Accepting what nobody loosened is a mistake."""
    given = [one.limit for one in made.accepted]
    if twice := [name for name in given if given.count(name) > 1]:
        raise OfferError(f"--accept-loosened {twice[0]} was given twice: give one reason")
    names = {name_of(one) for _, one in made.loosened}
    for one in made.accepted:
        if one.limit not in names:
            known = f"only {', '.join(sorted(names))}" if names else "no limit"
            raise OfferError(f"--accept-loosened {one.limit}: {known} was loosened")
    if made.fast and not made.parts[-1].is_pipeline:
        raise OfferError(f"--fast is a pipeline's, and {made.bundle} is one network or its data")
    for path, _ in made.evaluations:
        if not made.measured:
            raise OfferError(f"--evaluation {path}: a float32 release without --fast needs none")


def name_of(one: Loosened) -> str:
    """As it is written after --limit."""
    return one.metric if one.tap is None else f"{one.tap}:{one.metric}"


# The terms ----------------------------------------------------------------------------------------

Reasons = Iterator[tuple[str, str]]  # why not, what to run


def _of_results(check: Callable[[Part], str]) -> Callable[[Offer], Reasons]:
    """A term that each result must meet; a new comparison puts right what does not."""

    def reasons(one: Offer) -> Reasons:
        for part in one.judged:
            if why := check(part):
                yield why, _compare(one)

    return reasons


def _compare(one: Offer) -> str:
    names = [source.get("name", "SOURCE") for source in one.sources.values()]
    name = one.sources.get(one.kind, {}).get("name") or names[0]
    return f"run samevoice parity {one.bundle} --source {name} --output DIR"


def _untouched(one: Offer) -> Reasons:
    if changed := bundles.changed(one.bundle, one.provenance["outputs"]):
        yield (
            f"{len(changed)} files of {one.bundle} are not as they were written, "
            f"first {changed[0]!r}",
            "convert again",
        )
    if strange := strangers(one.bundle):
        yield f"{strange[0]} of {one.bundle} is not a bundle's file", "move it away"
    if one.parts[-1].is_pipeline and (why := settings_fault(one.bundle)):
        yield why, "convert again"


def _there(one: Offer) -> Reasons:
    for part in one.parts:
        if part.result is None and not part.unread:
            yield f"there is no result of the {part.label}", _compare(one)


def _readable(one: Offer) -> Reasons:
    for part in one.parts:
        if part.unread:
            yield f"the result of the {part.label} cannot be used ({part.unread})", _compare(one)


def _green(one: Offer) -> Reasons:
    for part in one.judged:
        for path, other in part.others:
            if not other.passed:
                yield f"{path} is red, and is of the same files", f"read {path}, or leave it out"
        if not part.judged.passed:
            yield (
                f"the {part.label} is red: {part.judged.verdict.reasons[0]}",
                f"read {_report(part)}",
            )


def _report(part: Part) -> str:
    assert part.result_path is not None
    page = part.result_path.parent / "report.html"
    return str(page if page.is_file() else part.result_path)


def _same_bytes(part: Part) -> str:
    if part.judged.bundle.sha256 == part.fingerprint:
        return ""
    return (
        f"the result of the {part.label} is of other files (sha256 "
        f"{part.judged.bundle.sha256[:12] or 'none'}, not {part.fingerprint[:12]})"
    )


def _same_source(part: Part) -> str:
    from samevoice.parity.identity import source_of

    if part.judged.source.sha256 == source_of(part.folder):
        return ""
    return f"the {part.label} was compared with another source than it was made from"


def _same_precision(part: Part) -> str:
    if part.judged.dtype == part.dtype:
        return ""
    return f"the {part.label} is {part.dtype}, but its result is of {part.judged.dtype}"


def _strict_device(one: Offer) -> Reasons:
    for part in one.judged:
        if part.judged.device.endswith("-tf32"):
            yield (
                f"the {part.label} was compared on {part.judged.device}, whose limits are too wide "
                "to show a fault",
                "set MLX_ENABLE_TF32=0, or --device cpu, and run samevoice parity again",
            )


def _default_inputs(part: Part) -> str:
    if not (missing := evidence.missing_inputs(part)):
        return ""
    return (
        f"the {part.label} was not compared on {len(missing)} of the default inputs, "
        f"first {missing[0]!r}"
    )


def _every_tap(one: Offer) -> Reasons:
    if any(_untouched(one)):
        return  # a bundle that was changed cannot be loaded
    for part in one.judged:
        if lost := evidence.missing_taps(part):
            yield f"the result of the {part.label} lacks {lost[0]}", _compare(one)


def _replayable(part: Part) -> str:
    why = evidence.golden_fault(part) if part.golden is not None else ""
    return f"no golden data of the {part.label}: {why}" if why else ""


def _gallery(one: Offer) -> Reasons:
    for part in one.networks:
        why = one.unread_gallery or evidence.gallery_fault(one.gallery, part)
        if not why and one.gallery is not None:
            why = evidence.gallery_age(one.gallery, part)
        if why:
            yield (
                why,
                f"run samevoice gallery {one.sources[part.source]['name']} --output gallery.md "
                "beside the results, or name another's gallery.json with --gallery",
            )


def _accepted(one: Offer) -> Reasons:
    known = {x.limit for x in one.accepted}
    for part, loose in one.loosened:
        if name_of(loose) not in known:
            yield (
                f"limits of the {part.label} were loosened, {loose}",
                f"compare without it, or answer for it: --accept-loosened {name_of(loose)} "
                '--because "..."',
            )


def _measured(one: Offer) -> Reasons:
    for claim, found in one.measured:
        if found is None:
            given = f" ({one.evaluations[0][0]} is not of it)" if one.evaluations else ""
            why = f"{claim.says}, and no --evaluation over a corpus says what that costs{given}"
            yield why, _evaluate(one, claim)
        elif said := corpora.fault(found[1]):
            yield f"{claim.says}, and {found[0]} {said}", _evaluate(one, claim)


def _evaluate(one: Offer, claim: Claim) -> str:
    """The command that makes what is missing; what it cannot know is in capitals.

    A source's name stands for its exact float32 bundle, which ``evaluate`` makes by itself.
    """
    whole = one.parts[-1]
    coarse = whole.is_pipeline and whole.dtype != corpora.EXACT
    bundle = str(one.bundle) if whole.is_pipeline else "PIPELINE"
    source = str(one.sources[one.kind]["name"])
    exact = source if whole.is_pipeline and is_name(source) else "EXACT"
    if claim.fast and not coarse:
        what = f"--model {bundle} --against fast"
    else:
        what = f"--model {exact} --against {bundle}{':fast' * claim.fast}"
    notes = {"EXACT": "the same pipeline in float32", "PIPELINE": f"one that holds {one.bundle}"}
    said = [f"{name} is {note}" for name, note in notes.items() if name in what]
    tail = f" ({', '.join(said)})" if said else ""
    return (
        f"run samevoice evaluate CORPUS {what} --output DIR and pass --evaluation "
        f"DIR/evaluation.json{tail}"
    )


def _licensed(one: Offer) -> Reasons:
    faults = ((source, evidence.licence_fault(source)) for source in one.sources.values())
    for source, why in faults:
        if why and not one.licence_ok:
            yield (
                f"{source['name']} {why}",
                "read its terms, and if they let you pass it on, say so with --license-ok",
            )
            return


@dataclass(frozen=True)
class Term:
    """One thing that must hold; ``says`` is how the table of refusals has it."""

    name: str
    says: str
    reasons: Callable[[Offer], Reasons]


TERMS = (
    Term("bundle", "the bundle is as it was written", _untouched),
    Term("result", "every part of it has a result", _there),
    Term(
        "schema", "which can be read, is of this schema and does not contradict itself", _readable
    ),
    Term("verdict", "which is green", _green),
    Term("hashes", "for exactly these files", _of_results(_same_bytes)),
    Term("source", "against the source that they were made from", _of_results(_same_source)),
    Term("dtype", "in the precision that is shipped", _of_results(_same_precision)),
    Term("device", "on a device that computes in float32, not TF32", _strict_device),
    Term("inputs", "on the default inputs at least", _of_results(_default_inputs)),
    Term("taps", "at every layer, as deep as each input says", _every_tap),
    Term("golden", "with PyTorch's outputs kept for a replay", _of_results(_replayable)),
    Term("gallery", "every known bug of its family was found where it sits", _gallery),
    Term("loosened", "no limit was loosened that nobody answers for", _accepted),
    Term(
        "corpus",
        "what a coarse embedding or the fast mode costs was measured over a corpus",
        _measured,
    ),
    Term("licence", "the source's licence lets it be passed on, or was read", _licensed),
)
