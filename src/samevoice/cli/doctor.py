"""doctor: what is installed here, and whether the fast forms are right on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from samevoice.cli import streams, terminal
from samevoice.cli.options import AsJson, UsageError, argument, flag
from samevoice.errors import NotPassedError


def doctor(
    releases: Annotated[
        list[Path] | None,
        argument(
            "RELEASE",
            "With --self-test: releases, or bundles with a golden folder, to replay here.",
        ),
    ] = None,
    self_test: Annotated[
        bool,
        flag("--self-test", "Check the fast code on every device against the plain code."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what is installed and how to fix what is missing."""
    from samevoice.doctor import examine

    if self_test:
        _self_test(releases or [], as_json)
        return
    if releases:
        raise UsageError("a RELEASE goes with --self-test, which replays it")
    checks = terminal.each(examine(), terminal.check, as_json=as_json)
    if as_json:
        streams.echo_json([check.as_dict() for check in checks])


def _self_test(releases: list[Path], as_json: bool) -> None:
    from samevoice.selftest import self_test, why_not_replayed

    for why in filter(None, map(why_not_replayed, releases)):
        raise UsageError(why)
    results = terminal.each(self_test(releases), terminal.finding, as_json=as_json)
    if as_json:
        streams.echo_json([one.as_dict() for one in results])
    if wrong := [one for one in results if one.state == "broken"]:
        first = wrong[0]
        raise NotPassedError(
            f"{len(wrong)} of {len(results)} tests failed, first {first.name} on {first.device}: "
            f"{first.found}"
        )
