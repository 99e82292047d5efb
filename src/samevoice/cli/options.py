"""How options are declared, and each one that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

# typer carries its own copy of click, whose usage errors it exports only through this subclass.
UsageError: Any = typer.BadParameter.__base__


def argument(metavar: str, what: str, *, default: str = "") -> Any:
    return typer.Argument(metavar=metavar, help=_help(what, default))


def option(metavar: str, what: str, *names: str, default: str = "") -> Any:
    """``default``: what happens without the option, where the code's own default is None."""
    return typer.Option(*names, metavar=metavar, help=_help(what, default))


def flag(names: str, what: str) -> Any:
    """``names``: one or several, with spaces between them."""
    return typer.Option(*names.split(), help=what)


def choice(what: str, *, default: str = "") -> Any:
    """An option that takes one word of a list, which the help shows."""
    return typer.Option(help=_help(what, default))


def _help(what: str, default: str) -> str:
    return f"{what} [dim]\\[default: {default}][/]" if default else what


Dtype: TypeAlias = Literal["float32", "float16", "bfloat16"]
Device: TypeAlias = Literal["auto", "gpu", "cpu"]


Bundle = Annotated[Path, argument("BUNDLE", "A folder that convert wrote.")]
Pipeline = Annotated[
    str | None,
    option("MODEL", "A bundle, a hub id or an open model.", "--model", default="open:diarization"),
]
CorpusName = Annotated[
    str,
    argument(
        "CORPUS",
        "A folder of recordings with RTTM files, a list, a Lhotse manifest, or "
        "FILE.yml:PROTOCOL.SUBSET.",
    ),
]
ModelType = Annotated[
    str,
    option(
        "TYPE",
        "auto, a role (segmentation, embedding, plda, full), or an architecture; samevoice doctor "
        "lists these.",
    ),
]
Revision = Annotated[str | None, option("R", "Branch, tag or commit on the hub.")]
OnDevice = Annotated[Device, choice("Where MLX runs.")]
Workers = Annotated[
    int | None,
    option("N", "Processes, each for a recording at a time.", default="as many as are worth it"),
]
OnCluster = Annotated[
    str | None, option("ADDRESS", "Share the work out on this Ray cluster, or local.", "--cluster")
]
Overwrite = Annotated[bool, flag("--overwrite", "Replace files that are already there.")]
AsJson = Annotated[bool, flag("--json", "Print JSON.")]
LimitsFile = Annotated[
    Path | None, option("FILE", "A TOML file with a \\[limits] table.", "--limits")
]
Limits = Annotated[
    list[str] | None,
    option("M=X", "One limit: noise_ratio=5, or lstm.0:noise_ratio=5.", "--limit"),
]
