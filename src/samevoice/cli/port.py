"""port: from anybody's PyTorch module to a family whose every layer was compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from samevoice import outputs
from samevoice.cli import report, streams, terminal, verdicts
from samevoice.cli.options import Overwrite, UsageError, argument, flag, option
from samevoice.errors import NotPassedError

if TYPE_CHECKING:
    from samevoice.port import Port


def port(
    module: Annotated[
        str, argument("MODULE:CLASS", "Your class, or a function that builds it. Its code is run.")
    ],
    output: Annotated[Path | None, option("DIR", "Folder for the package.")] = None,
    into: Annotated[
        Path | None, option("CLONE", "Write into samevoice's own three folders instead.")
    ] = None,
    args: Annotated[
        str, option("JSON", "What the class is built with, by name: '{\"layers\": 12}'.")
    ] = "{}",
    weights: Annotated[
        str | None, option("SOURCE", "A checkpoint for it.", default="seeded weights")
    ] = None,
    shapes: Annotated[
        list[str] | None,
        option(
            "SPEC",
            "What it takes, one for each tensor: 2x200x80, B2xT200x80, lengths=B:int64<200.",
            "--input",
            default="the first of the usual ones that runs",
        ),
    ] = None,
    name: Annotated[
        str | None, option("NAME", "What the architecture is called.", default="the class")
    ] = None,
    draft: Annotated[
        bool, flag("--draft", "Write the table and a list of the layers; leave out the network.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write an MLX port of a PyTorch module, and compare every layer of it."""
    from samevoice.port import places
    from samevoice.port import port as run

    if output is not None:
        files = [(output / name, "code") for name in (places.PROJECT, places.README)]
        outputs.refuse(files, overwrite=overwrite)
    with terminal.progress("porting") as advance:
        made = run(
            module,
            output,
            into=into,
            args=_parsed(args),
            inputs=shapes or (),
            name=name or "",
            weights=weights or "",
            draft=draft,
            overwrite=overwrite,
            progress=lambda what: advance(what, 0, 0),
        )
    _show(made)


def _parsed(args: str) -> dict[str, Any]:
    try:
        found = json.loads(args)
    except json.JSONDecodeError as error:
        raise UsageError(f"--args is no JSON ({error}): {args!r:.60}") from None
    if not isinstance(found, dict):
        raise UsageError("--args: arguments by name are wanted, as in '{\"layers\": 12}'")
    return found


def _show(made: Port) -> None:
    place, where = made.place, made.place.file(made.place.network)
    named = place.folder if place.is_package else where
    streams.echo(f"{named}: {made.ported.architecture}, {made.summary}")
    for one in made.ported.unknown:
        streams.echo(f"  not written: {one}")
    if made.ported.unknown:
        count = len(made.ported.unknown)
        has, it = ("s have", "they are") if count > 1 else (" has", "it is")
        raise NotPassedError(
            f"{count} operation{has} no form in MLX yet: {it} marked in "
            f"{where.relative_to(place.folder)}"
        )
    if made.result is None:
        return
    verdicts.show(made.result.verdict, made.ported.architecture, cause=made.result.cause)
    report.write_beside({"": made.result}, place.result)
    if not made.passed:
        from samevoice.parity.run import sentence

        raise NotPassedError(sentence(made.result, place.result))
