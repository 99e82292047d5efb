"""Results in, report files out: everything is written aside first, then renamed into place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from samevoice.errors import SamevoiceError
from samevoice.outputs import OutputError, Target, write
from samevoice.parity.result import Result, read

Format: TypeAlias = Literal["html", "markdown", "junit", "plots"]
FORMATS: tuple[Format, ...] = get_args(Format)

HTML, MARKDOWN, JUNIT, PLOTS = "report.html", "report.md", "junit.xml", "plots"
BESIDE = "comparison"  # the folder of a page that compares results
OURS = re.compile(
    r"(\d+-)?(ladder|histogram|scatter|similarities|timelines|confusion|diarizations)\.svg"
)


class ReportError(SamevoiceError):
    """A report cannot be written."""


def write_reports(
    results: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    formats: Iterable[Format] = FORMATS,
    *,
    gallery: Sequence[Any] | None = None,
) -> list[Path]:
    """Files of results -> the files written, the page first.

    Without ``output`` a report lies beside its result, one of several results in the folder
    ``comparison`` beside their folders.
    """
    paths = [Path(results)] if isinstance(results, str | Path) else [Path(one) for one in results]
    if not paths:
        raise ReportError("there is no result to report")
    found = read_results(named(paths))
    return write_all(found, Path(output) if output else home_of(paths), formats, gallery=gallery)


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Each result by the shortest name that tells it from the others: its folder's, or its path."""
    short = [_folder_name(path) for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ReportError(f"{twice} was named twice: name each result once")
    return dict(zip(names, paths, strict=True))


def read_results(paths: Mapping[str, Path]) -> dict[str, Result]:
    return {name: read(path) for name, path in paths.items()}


def _folder_name(path: Path) -> str:
    return path.resolve().parent.name or str(path)


def home_of(paths: Sequence[Path]) -> Path:
    """Where reports go that were given no place."""
    if len(paths) == 1:
        return paths[0].parent
    folders = [str(path.resolve().parent) for path in paths]
    return Path(os.path.commonpath(folders)) / BESIDE


def write_all(
    results: Mapping[str, Result],
    output: Path,
    formats: Iterable[Format] = FORMATS,
    *,
    gallery: Sequence[Any] | None = None,
) -> list[Path]:
    """Results by name -> the files written, the page first."""
    formats = set(formats)
    texts = _texts(results, formats, gallery)
    try:
        write({output / name: words for name, words in texts.items()})
    except OutputError as error:
        raise ReportError(f"cannot write a report to {output}: {error}") from None
    if "plots" in formats:
        _remove_old_plots(output, texts)
    return [output / name for name in texts]


def targets(output: Path) -> list[Target]:
    """Each file that a report in this folder writes over, and its kind."""
    plots = [path for path in (output / PLOTS).glob("*.svg") if OURS.fullmatch(path.name)]
    names = (HTML, MARKDOWN, JUNIT)
    return [*((output / name, name) for name in names), *((path, "plot") for path in plots)]


def _remove_old_plots(output: Path, texts: Mapping[str, str]) -> None:
    """Pictures of a result that lay here before and had more to draw."""
    for path in (output / PLOTS).glob("*.svg"):
        if OURS.fullmatch(path.name) and f"{PLOTS}/{path.name}" not in texts:
            path.unlink()


def _texts(
    results: Mapping[str, Result], formats: set[Format], gallery: Sequence[Any] | None
) -> dict[str, str]:
    """File name -> its text, all made before any is written."""
    from samevoice.reports import canvas, ci, page, plots
    from samevoice.reports.view import view

    drawn = [plots.plots(result) for result in results.values()] if formats - {"junit"} else []
    pictures = [
        {_plot_name(one.key, k, len(drawn)): one for one in found if isinstance(one, canvas.Plot)}
        for k, found in enumerate(drawn)
    ]
    texts: dict[str, str] = {}
    if "html" in formats:
        views = [view(result, name, gallery=gallery) for name, result in results.items()]
        texts[HTML] = page.html(views, drawn=drawn)
    if "markdown" in formats:
        parts = [
            ci.markdown(name, result, {path: one.alt for path, one in shown.items()})
            for (name, result), shown in zip(results.items(), pictures, strict=True)
        ]
        texts[MARKDOWN] = "\n".join(parts)
    if formats & {"markdown", "plots"}:
        texts |= {path: one.file for shown in pictures for path, one in shown.items()}
    if "junit" in formats:
        texts[JUNIT] = ci.junit(results)
    return texts


def _plot_name(key: str, result: int, count: int) -> str:
    return f"{PLOTS}/{key}.svg" if count == 1 else f"{PLOTS}/{result + 1}-{key}.svg"
