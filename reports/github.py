"""For GitHub Actions: a page for the step's summary, and an annotation for each failed tap."""

from collections.abc import Iterable, Iterator, Mapping

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Result
from samevoice.reports.diagnose import diagnose
from samevoice.reports.text import code, inline, prose, visible
from samevoice.reports.view import compared
from samevoice.reports.words import number

# GitHub refuses a step's summary from 1 MiB on; several steps may share it.
LARGEST = 2**19
WORST = 10  # failed taps shown of each result


def summary(results: Mapping[str, Result]) -> str:
    """One row for each result, then for the failed ones where and likely why."""
    red = sum(not result.passed for result in results.values())
    head = f"{len(results)} passed" if not red else f"{red} of {len(results)} failed"
    lines = [f"### samevoice: {head}", "", *_table(results), ""]
    for name, result in results.items():
        if not result.passed:
            lines += [*_failure(name, result), ""]
    return _cut(lines)


def _table(results: Mapping[str, Result]) -> Iterator[str]:
    yield "| | result | type | taps | worst noise ratio | first divergence |"
    yield "| :-: | --- | --- | ---: | ---: | --- |"
    for name, result in results.items():
        worst = max((tap.judged_ratio for tap in result.taps), default=None)
        where = code(result.first_divergence) if result.first_divergence else "none"
        note = " (limits loosened)" if result.loosened else ""
        cells = (
            "✅" if result.passed else "❌",
            code(name) + note,
            inline(compared(result)),
            str(len(result.taps)),
            "" if worst is None else number(worst),
            where,
        )
        yield f"| {' | '.join(cells)} |"


def _failure(name: str, result: Result) -> Iterator[str]:
    yield f"#### {code(name)}"
    yield ""
    failed = result.verdict.failed
    for words in _beside_taps(result):
        yield f"- {prose(words)}"
    for tap in failed[:WORST]:
        yield f"- {code(tap.label)}: {inline('; '.join(tap.reasons))}"
    if len(failed) > WORST:
        yield f"- and {len(failed) - WORST} more taps"
    for one in diagnose(result)[:1]:
        yield ""
        yield f"**{inline(one.headline)}.** {inline(one.why)} Next: {inline(one.next_step)}"


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


def annotations(results: Mapping[str, Result]) -> list[str]:
    """One workflow command for each failed tap, and for what else failed.

    GitHub shows ten of a step, so the first says how many there are.
    """
    found = [
        (name, result, title, words)
        for name, result in results.items()
        if not result.passed
        for title, words in _failures(result)
    ]
    count = f"1 of {len(found)}: " if len(found) > 1 else ""
    lines = []
    for k, (name, result, title, words) in enumerate(found):
        said = f"{name}, {result.model_type}: {words}"
        lines.append(error_line(f"samevoice: {title}", (count if k == 0 else "") + said))
    return lines


def _failures(result: Result) -> Iterator[tuple[str, str]]:
    for tap in result.verdict.failed:
        yield f"{tap.label} diverges", "; ".join(tap.reasons) + _figures(tap)
    for words in _beside_taps(result):
        yield "the task fails" if result.taps else "nothing was compared", words


def _beside_taps(result: Result) -> tuple[str, ...]:
    nothing = () if result.taps else ("no tap was compared",)
    return (*nothing, *result.verdict.task_reasons)


def _figures(tap: TapVerdict) -> str:
    return f" (max abs {number(tap.max_abs)}, cosine {number(tap.cosine_min)})"


def error_line(title: str, message: str) -> str:
    """``::error``; what would end the property or the line is escaped as GitHub asks."""
    return f"::error title={_property(visible(title))}::{_data(visible(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
