"""A result or a verdict in a notebook: what its report begins with, its worst taps, its ladder.

The styles are the report's, for this part of the notebook alone; plots are images, whose styles and
ids stay in them. Where what draws it is not installed, a plain table says the same.
"""

from __future__ import annotations

import base64
import re
from html import escape

from samevoice.errors import MissingExtraError
from samevoice.parity.inputs import Input
from samevoice.parity.judge import Verdict
from samevoice.parity.result import Artefact, Result
from samevoice.reports.text import visible
from samevoice.reports.view import View, view, worst
from samevoice.reports.words import number, ratio

DUMP = "dump"  # limits of arrays that are compared without a truth, whatever made them
# Thrice, so that it weighs more than a notebook's own rules for tables and lists.
SCOPE = ".samevoice.samevoice.samevoice"
# What notebooks say of tables and is said nowhere else; and the paper's edge.
ALSO = (
    "&{padding:.6rem;border-radius:14px}table{table-layout:auto;margin:0;border:0;color:inherit}"
    "tr,tr:hover{background:none}img{width:100%}"
)


def of_result(result: Result) -> str:
    return _shown(view(result))


def of_verdict(verdict: Verdict) -> str:
    """A verdict is a result that does not say what was compared."""
    nothing = Artefact("")
    inputs = dict.fromkeys(tap.input for tap in verdict.taps)
    result = Result(
        passed=verdict.passed,
        model_type=verdict.limits.family,
        dtype=verdict.limits.dtype,
        device=verdict.limits.device,
        source=nothing,
        bundle=nothing,
        versions={},
        inputs=tuple(Input(name, "") for name in inputs),
        command=(),
        taps=verdict.taps,
        first_divergence=verdict.first_divergence,
        task={section: dict(figures) for section, figures in verdict.task.items()},
        limits=verdict.limits,
        loosened=verdict.loosened,
    )
    return _shown(view(result, ""))


def _shown(found: View) -> str:
    try:
        from samevoice.reports import page, plots
        from samevoice.reports.rendering import rendered
    except MissingExtraError as error:
        return _plain(found, str(error))
    drawn = plots.ladder.tried(found.result)
    return rendered(
        "notebook.html",
        view=found,
        bare=found.result.limits.family == DUMP,
        style=scoped(page.styles()),
        ladder=drawn,
        address=_address(drawn.file) if isinstance(drawn, plots.Plot) else "",
    )


def scoped(style: str) -> str:
    """The same rules for what is inside ``SCOPE``, which is root and body to them."""
    return f"{SCOPE}{{{re.sub(r'(:root|html|(?<!t)body){', '&{', style)}{ALSO}}}"


def _address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _plain(found: View, why: str) -> str:
    cells = (
        (
            tap.label,
            ratio(tap.judged_ratio),
            number(tap.max_abs),
            "passed" if tap.passed else "failed",
        )
        for tap in worst(found.result)
    )
    head = "".join(f"<th>{name}</th>" for name in ("tap", "noise ratio", "max abs", "verdict"))
    rows = "".join(f"<tr>{''.join(f'<td>{_safe(one)}</td>' for one in row)}</tr>" for row in cells)
    reason = "".join(f"<p>{_safe(one)}</p>" for one in found.result.verdict.reasons[:1])
    return (
        f"<p><strong>{_safe(found.word)}</strong></p>{reason}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{_safe(why)}</p>"
    )


def _safe(text: str) -> str:
    return escape(visible(text))
