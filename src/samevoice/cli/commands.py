"""Every command, and its place in the help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from samevoice.cli import (
    bench,
    convert,
    diarize,
    doctor,
    evaluate,
    models,
    parity,
    port,
    precision,
    release,
    report,
    speakers,
    streams,
    tune,
)
from samevoice.cli.examples import examples, shown
from samevoice.cli.options import flag

app = typer.Typer(
    name="samevoice",
    rich_markup_mode="rich",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert speaker models from PyTorch to MLX, and prove that they still hear the same "
    "voices.",
    epilog=shown(
        "convert reference:segmentation",
        "convert pyannote/segmentation-3.0 --mlx-path segmentation",
        "parity segmentation --source pyannote/segmentation-3.0",
        "export segmentation --output segmentation.bin",
        "doctor",
    ),
)


def _version(asked: bool) -> None:
    if asked:
        from samevoice.versions import named

        streams.echo(f"samevoice {named()}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[bool, flag("--debug", "Show the traceback of an error.")] = False,
) -> None:
    # --debug is taken out of the arguments in main(), so that it may stand anywhere.
    del version, debug


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Converting": (
        convert.convert,
        convert.export,
        convert.inspect,
        port.port,
        precision.precision,
        models.models,
    ),
    "Comparing": (
        parity.parity,
        parity.replay,
        parity.gate,
        report.report,
        parity.gallery,
        parity.judge,
    ),
    "Releasing": (release.release, release.verify),
    "Diarizing": (diarize.diarize, evaluate.evaluate, evaluate.score, tune.tune),
    "This machine": (doctor.doctor, bench.bench),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _name = _command.__name__
        app.command(_name, rich_help_panel=_panel, epilog=examples(_name))(_command)
app.add_typer(speakers.app, name="speakers", rich_help_panel="Diarizing")
