"""A result as Markdown: the page's story, short enough for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Result
from samevoice.reports.text import code, inline, prose, visible
from samevoice.reports.view import View, compared, view
from samevoice.reports.words import limit_words, number

MARKS = {"good": "✅", "care": "⚠️", "bad": "❌"}
ALIGNED_RIGHT = frozenset(("noise ratio", "max abs", "cosine", "norm ratio"))


def markdown(name: str, result: Result, plots: Mapping[str, str]) -> str:
    """``plots``: path from where the text will lie -> what is to be seen there, in words."""
    shown = view(result, name)
    parts = (
        _verdict(shown),
        _causes(shown),
        _compared(shown),
        _worst(shown),
        _task(shown),
        _loosened(shown),
        _tensors(shown),
        _plots(plots),
        _again(shown),
    )
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines) + "\n"


def _verdict(shown: View) -> Iterator[str]:
    yield f"## {MARKS[shown.state]} {code(shown.name)} {shown.word}"
    yield ""
    yield f"**{inline(shown.headline)}** {inline(shown.because)}"
    yield ""
    rows = [
        (inline(one.name), f"**{inline(one.value)}**", inline(one.means)) for one in shown.figures
    ]
    yield from _table(("figure", "value", "meaning"), rows)


def _causes(shown: View) -> Iterator[str]:
    if shown.diagnoses:
        yield "### What went wrong"
        yield ""
    for k, one in enumerate(shown.diagnoses, 1):
        yield f"{k}. **{inline(one.headline)}.** {inline(one.why)} Next: {inline(one.next_step)}"


def _compared(shown: View) -> Iterator[str]:
    yield "### What was compared"
    yield ""
    yield f"- {prose(compared(shown.result))}"
    for facts in shown.provenance:
        said = (
            f"{inline(one.name)} {code(one.value) if one.code else inline(one.value)}"
            for one in facts.facts
        )
        yield f"- {prose(facts.title)}: {', '.join(said)}"
    if shown.inputs:
        named = ", ".join(code(one.name) for one in shown.inputs[:20])
        more = f" and {len(shown.inputs) - 20} more" if len(shown.inputs) > 20 else ""
        yield f"- Inputs: {named}{more}"


def _worst(shown: View) -> Iterator[str]:
    failed = len(shown.failed)
    yield f"### {'Failed taps' if failed else 'Taps nearest to their limits'}"
    yield ""
    headings = ("tap", "input", "noise ratio", "limit", "max abs", "cosine", "norm ratio", "")
    yield from _table(headings, [_tap(shown.result, tap) for tap in shown.worst])
    if failed > len(shown.worst):
        yield ""
        yield f"{failed - len(shown.worst)} more taps failed."


def _tap(result: Result, tap: TapVerdict) -> Sequence[str]:
    mode = " (forced)" if tap.mode == "forced" else ""
    return (
        code(tap.name) + mode,
        code(tap.input) if tap.input else "",
        number(tap.judged_ratio),
        inline(limit_words(result.limits, tap)),
        number(tap.max_abs),
        number(tap.cosine_min, 7),
        number(tap.norm_ratio, 5),
        "✅" if tap.passed else "❌",
    )


def _task(shown: View) -> Iterator[str]:
    if not shown.task:
        return
    yield "### The task"
    yield ""
    for words in shown.result.verdict.task_reasons:
        yield f"- ❌ {inline(words)}"
    for facts in shown.task:
        said = "; ".join(f"{inline(one.name)} {inline(one.value)}" for one in facts.facts)
        yield f"- {prose(facts.title)}: {said}"


def _loosened(shown: View) -> Iterator[str]:
    if not shown.loosened:
        return
    yield "### ⚠️ Limits that were loosened"
    yield ""
    whys = {(x.limit.metric, x.limit.where, x.limit.tap): x.limit.why for x in shown.limits}
    for one in shown.result.loosened:
        why = whys.get((one.metric, one.where, one.tap), "")
        yield f"- {prose(str(one))}" + (f" ({inline(why)})" if why else "")


def _tensors(shown: View) -> Iterator[str]:
    tensors = shown.tensors
    if tensors is None:
        return
    yield "### Tensors"
    yield ""
    yield f"- {prose(tensors.said)}"
    for one in tensors.dropped:
        first, count = code(one.names[0]) if one.names else "none", len(one.names)
        what = first if count < 2 else f"{count} such as {first}"
        yield f"- dropped: {what}, as {inline(one.why)}"


def _plots(plots: Mapping[str, str]) -> Iterator[str]:
    for k, (path, alt) in enumerate(plots.items()):
        if k:
            yield ""
        # A colon is quoted, too: nothing but a path can stand here.
        yield f"![{inline(alt)}]({quote(path, safe='/', errors='replace')})"


def _again(shown: View) -> Iterator[str]:
    if not shown.command:
        return
    command = visible(shown.command)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", command)), default=2))
    yield "To repeat it:"
    yield ""
    yield f"{fence}sh"
    yield command
    yield fence


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join('---:' if x in ALIGNED_RIGHT else '---' for x in headings)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
