"""Pictures of a result, as SVG: what to look for stands in each one's caption.

What is drawn follows from what the result holds. The same result always gives the same bytes.
"""

from __future__ import annotations

from samevoice.parity.result import Result
from samevoice.reports.canvas import Drawing, Plot, Undrawn
from samevoice.reports.plots.errors import comparison, histogram, ladder, scatter
from samevoice.reports.plots.task import confusion, diarizations, similarities, timelines

__all__ = ["Plot", "comparison", "ladder", "plots"]

# In the order of the page, with what must be there: a section of the task, or an entry of details.
DRAWINGS: tuple[tuple[Drawing[[Result]], str], ...] = (
    (ladder, ""),
    (histogram, ""),
    (scatter, "scatter"),
    (similarities, "similarity"),
    (timelines, "timelines"),
    (confusion, "agreement"),
    (diarizations, "diarization"),
)


def plots(result: Result) -> tuple[Plot | Undrawn, ...]:
    """All that this result can show, in the order of the page."""
    return tuple(
        one.tried(result)
        for one, needs in DRAWINGS
        if not needs or needs in result.task or needs in result.details
    )
