"""What pull requests and CI read of results: Markdown, JUnit XML, GitHub's summary and errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Result
from samevoice.reports.junit import Case, Suite, suites_of
from samevoice.reports.rendering import rendered
from samevoice.reports.text import visible
from samevoice.reports.view import View, view
from samevoice.reports.words import number

# GitHub refuses a step's summary from 1 MiB on; several steps may share it.
LARGEST = 2**19
WORST = 10  # failed taps told of each result
LISTED = 100  # taps in its folded list
FIGURES = ("noise_ratio", "max_abs", "mean_abs", "p99", "nmse", "cosine_min", "norm_ratio")


def markdown(name: str, result: Result, plots: Mapping[str, str]) -> str:
    """The page's story, short enough for a pull request.

    ``plots``: path from where the text will lie -> what is to be seen there, in words.
    """
    return rendered("report.md", view=view(result, name), plots=plots)


def junit(results: Mapping[str, Result]) -> str:
    """A suite for each result, a case for each tap."""
    return suites_of(_suite(view(result, name)) for name, result in results.items())


def _suite(one: View) -> Suite:
    result = one.result
    properties: list[tuple[str, object]] = [
        ("passed", str(result.passed).lower()),
        ("first_divergence", result.first_divergence or ""),
        ("schema", result.schema),
        ("command", " ".join(result.command)),
    ]
    for who, artefact in (("source", result.source), ("bundle", result.bundle)):
        notes = ((f"{who}.{key}", value) for key, value in sorted(artefact.notes.items()))
        properties += [(f"{who}.sha256", artefact.sha256), *notes]
    properties += ((f"version.{key}", value) for key, value in sorted(result.versions.items()))
    properties += (("loosened", loosened) for loosened in one.loosened)
    name = f"{one.name}: {one.compared}"
    return Suite(name, result.model_type, "parity", properties, list(_cases(one)))


def _cases(one: View) -> Iterator[Case]:
    if not one.result.taps:
        yield Case("taps", ("no tap was compared",))
    for tap in one.result.taps:
        figures = ", ".join(f"{name} {number(getattr(tap, name))}" for name in FIGURES)
        said = f"shape {list(tap.shape)}, {tap.dtype}: {figures}" if tap.reasons else ""
        yield Case(tap.label, tap.reasons, said)
    if one.result.limits.for_task:
        yield Case("task", one.result.verdict.task_reasons)


# GitHub -------------------------------------------------------------------------------------------


def summary(results: Mapping[str, Result]) -> str:
    """One row for each result, for the failed ones where and likely why, then tap by tap."""
    red = sum(not result.passed for result in results.values())
    head = f"{len(results)} passed" if not red else f"{red} of {len(results)} failed"
    views = [view(result, name) for name, result in results.items()]
    said = {"most": WORST, "listed": LISTED, "worst_of_each": _worst_of_each}
    return _cut(rendered("summary.md", head=head, views=views, **said).splitlines())


def _worst_of_each(taps: Iterable[TapVerdict]) -> list[TapVerdict]:
    """Each tap where it was furthest off, over all inputs, in the order of the run."""
    found: dict[str, TapVerdict] = {}
    for tap in taps:
        if tap.judged_ratio >= found.setdefault(tap.name, tap).judged_ratio:
            found[tap.name] = tap
    return list(found.values())


def _cut(lines: Iterable[str]) -> str:
    """Whole lines as far as GitHub takes them."""
    kept, size = [], 0
    for line in lines:
        size += len(line.encode()) + 1
        if size > LARGEST:
            kept += ["", "The rest is cut off here: the reports hold it all."]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def error_lines(results: Mapping[str, Result]) -> list[str]:
    """One workflow command for each failed tap, and for what else failed.

    GitHub shows ten of a step, so the first says how many there are.
    """
    found = [
        (title, f"{name}, {result.model_type}: {words}")
        for name, result in results.items()
        if not result.passed
        for title, words in _failures(view(result))
    ]
    count = f"1 of {len(found)}: " if len(found) > 1 else ""
    return [
        error_line(f"samevoice: {title}", said if k else count + said)
        for k, (title, said) in enumerate(found)
    ]


def _failures(one: View) -> Iterator[tuple[str, str]]:
    for tap in one.failed:
        yield f"{tap.label} diverges", "; ".join(tap.reasons) + _figures(tap)
    for words in one.beside_taps:
        yield "the task fails" if one.result.taps else "nothing was compared", words


def _figures(tap: TapVerdict) -> str:
    return f" (max abs {number(tap.max_abs)}, cosine {number(tap.cosine_min)})"


def error_line(title: str, message: str) -> str:
    """``::error``; what would end the property or the line is escaped as GitHub asks."""
    return f"::error title={_property(visible(title))}::{_data(visible(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
