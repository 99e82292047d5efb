"""report: results become pages, for people, for pull requests and for CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from samevoice import outputs
from samevoice.cli import evaluated, streams, terminal
from samevoice.cli.options import Overwrite, UsageError, argument, flag, option
from samevoice.errors import MissingExtraError, SamevoiceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from samevoice.parity.result import Result

SUMMARY = "GITHUB_STEP_SUMMARY"


def report(
    results: Annotated[
        list[Path] | None,
        argument("RESULT...", "result.json or evaluation.json files, or their folders."),
    ] = None,
    output: Annotated[
        Path | None, option("DIR", "Folder for the report.", default="beside the result")
    ] = None,
    show: Annotated[bool, flag("--open", "Open the page in a browser.")] = False,
    github_summary: Annotated[
        bool,
        flag(
            "--github-summary", "Add to GitHub's step summary, with an error for each failed tap."
        ),
    ] = False,
    gallery: Annotated[Path | None, option("FILE", "The JSON file that gallery wrote.")] = None,
    index: Annotated[
        Path | None, option("DIR", "Write a page that links all results below DIR.")
    ] = None,
    left_out: Annotated[
        list[str] | None, option("TEXT", "With --index: what was not compared, and why.")
    ] = None,
    history: Annotated[
        Path | None, option("DIR", "Write a page of all evaluations below DIR, run by run.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the report of a result or an evaluation again, or one of several side by side."""
    pages = []
    if results and any(map(_is_evaluation, results)):
        if gallery or github_summary:
            raise UsageError("--gallery and --github-summary go with results, not evaluations")
        pages.append(_evaluations(results, output, overwrite))
    elif results:
        found = [path / "result.json" if path.is_dir() else path for path in results]
        pages.append(_report(found, output, gallery, github_summary, overwrite))
    elif output or gallery or github_summary or (index is None and history is None):
        raise UsageError("report needs a RESULT, or --index DIR or --history DIR alone")
    if left_out and index is None:
        raise UsageError("--left-out goes with --index DIR")
    if index is not None:
        pages.append(_index(index, left_out or [], overwrite))
    if history is not None:
        pages.append(_history(history, overwrite))
    if show:
        _open(pages[0])


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
    terminal.say(f"report: {page}")
    if github_summary:
        _tell_github(found)
    return page


def _is_evaluation(path: Path) -> bool:
    return outputs.is_result(_evaluation_in(path), evaluated.JSON)


def _evaluation_in(path: Path) -> Path:
    return path / evaluated.JSON if path.is_dir() else path


def _evaluations(paths: Sequence[Path], output: Path | None, overwrite: bool) -> Path:
    """The page of one again, or one page of several, which are also shown here."""
    from samevoice.evaluation import saved
    from samevoice.reports.write import home_of, named

    other = next((path for path in paths if not _is_evaluation(path)), None)
    if other:
        raise UsageError(f"{other} is no evaluation: name evaluations or results, not both")
    files = [_evaluation_in(path) for path in paths]
    found = {name: saved.read(path) for name, path in named(files).items()}
    where = output or home_of(files)
    targets = [(where / name, name) for name in evaluated.PAGES]
    outputs.refuse(targets, inputs=files, overwrite=overwrite)
    texts = evaluated.pages(found, where)
    outputs.write(texts)
    if len(found) > 1:
        evaluated.show_several(list(found.values()))
    page = next(iter(texts))
    terminal.say(f"report: {page}")
    return page


def _index(folder: Path, left_out: Sequence[str], overwrite: bool) -> Path:
    from samevoice.reports.index import INDEX, write_index

    outputs.refuse([(folder / INDEX, INDEX)], overwrite=overwrite)
    page = write_index(folder, left_out)
    terminal.say(f"index: {page}")
    return page


def _history(folder: Path, overwrite: bool) -> Path:
    from samevoice.reports.history import HISTORY, write_history

    outputs.refuse([(folder / HISTORY, HISTORY)], overwrite=overwrite)
    page = write_history(folder)
    terminal.say(f"history: {page}")
    return page


def _tell_github(results: Mapping[str, Result]) -> None:
    """The step's summary, and annotations on standard output, where GitHub looks for them."""
    from samevoice.reports.ci import error_lines, summary

    where = os.environ.get(SUMMARY)
    if not where:
        raise SamevoiceError(f"{SUMMARY} is not set: --github-summary is for GitHub Actions")
    try:
        with open(where, "a", encoding="utf-8") as file:
            file.write(summary(results))
    except OSError as error:
        raise SamevoiceError(f"cannot write to {where}: {error.strerror}") from None
    for line in error_lines(results):
        streams.echo(line)


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        raise SamevoiceError(f"no browser was found here: open {page} yourself")


def write_beside(results: Mapping[str, Result], output: Path) -> None:
    """Each result's report beside it; without the extra that draws it, a line that says so."""
    from samevoice.reports.write import write_all

    for part, result in results.items():
        folder = output / part
        try:
            page = write_all({folder.resolve().name: result}, folder)[0]
        except MissingExtraError as missing:
            terminal.say(f"  no report: {missing}")
            return
        terminal.say(f"  report: {page}")
