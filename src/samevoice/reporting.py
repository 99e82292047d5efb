"""The command that turns results into pages: for people, for pull requests, for CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samevoice import outputs, streams
from samevoice.comparing import Overwrite, UsageError
from samevoice.errors import MissingExtraError, SamevoiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from samevoice.parity.result import Result

SUMMARY = "GITHUB_STEP_SUMMARY"


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULT...", help="result.json files, or their folders."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the report goes. [dim]\\[default: beside the result][/]"
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    github_summary: Annotated[
        bool,
        typer.Option(
            "--github-summary", help="Add to the GitHub step's summary, one error a failed tap."
        ),
    ] = False,
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The JSON beside the table of samevoice gallery."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a page that links all results below DIR."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the pages of a result again, or one page of several side by side."""
    pages = []
    if results:
        paths = [path / "result.json" if path.is_dir() else path for path in results]
        pages.append(_report(paths, output, gallery, github_summary, overwrite))
    elif output or gallery or github_summary or index is None:
        raise UsageError("report needs a RESULT, or --index DIR alone")
    if index is not None:
        pages.append(_index(index, overwrite))
    if show:
        open_page(pages[0])


def _report(
    paths: list[Path],
    output: Path | None,
    gallery: Path | None,
    github_summary: bool,
    overwrite: bool,
) -> Path:
    from samevoice.parity import gallery_file
    from samevoice.reports.write import home_of, named, read_results, targets, write_all

    where = output or home_of(paths)
    read = [*paths, *([gallery] if gallery is not None else [])]
    outputs.refuse(targets(where), inputs=read, overwrite=overwrite)
    bugs = None if gallery is None else gallery_file.read(gallery).findings
    found = read_results(named(paths))
    page = write_all(found, where, gallery=bugs)[0]
    _say("report", page)
    if github_summary:
        tell_github(found)
    return page


def _index(folder: Path, overwrite: bool) -> Path:
    from samevoice.reports.index import INDEX, write_index

    if not folder.is_dir():
        raise SamevoiceError(f"there is no folder {folder}: --index takes one with results below")
    outputs.refuse([(folder / INDEX, INDEX)], overwrite=overwrite)
    page = write_index(folder)
    _say("index", page)
    return page


def _say(what: str, page: Path) -> None:
    from samevoice import terminal

    terminal.console().print(f"{what}: {page}", soft_wrap=True, markup=False, emoji=False)


def tell_github(results: Mapping[str, Result]) -> None:
    """The step's summary, and annotations on standard output, where GitHub looks for them."""
    from samevoice.reports.github import annotations, summary

    where = os.environ.get(SUMMARY)
    if not where:
        raise SamevoiceError(f"{SUMMARY} is not set: --github-summary is for GitHub Actions")
    try:
        with open(where, "a", encoding="utf-8") as file:
            file.write(summary(results))
    except OSError as error:
        raise SamevoiceError(f"cannot write to {where}: {error.strerror}") from None
    for line in annotations(results):
        streams.echo(line)


def open_page(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        raise SamevoiceError(f"no browser was found here: open {page} yourself")


def write_beside(console: Console, results: Mapping[str, Result], output: Path) -> None:
    """Each result's report beside it, or in a line why there is none."""
    from samevoice.reports.write import write_all

    for part, result in results.items():
        folder = output / part
        try:
            page = write_all({folder.resolve().name: result}, folder)[0]
        except MissingExtraError as missing:
            console.print(f"  no report: {missing}", soft_wrap=True, markup=False)
            return
        console.print(f"  report: {page}", soft_wrap=True, markup=False)
