"""The samevoice command: options in, one clear line or a result out. Heavy imports wait inside."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from samevoice import (
    __version__,
    benching,
    comparing,
    diarizing,
    enrolling,
    releasing,
    reporting,
    streams,
)
from samevoice.comparing import UsageError
from samevoice.errors import NotPassedError, SamevoiceError, SlowerWarning

if TYPE_CHECKING:
    from samevoice.converters.convert import Conversion

CONVERTING = "Converting"
COMPARING = "Comparing"
RELEASING = "Releasing"
DIARIZING = "Diarizing"
THE_MACHINE = "This machine"

app = typer.Typer(
    name="samevoice",
    rich_markup_mode="rich",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert speaker models from PyTorch to MLX, and prove that they still hear the same "
    "voices.",
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice convert reference:segmentation\n\n"
    "samevoice convert pyannote/segmentation-3.0 --mlx-path segmentation\n\n"
    "samevoice parity segmentation --source pyannote/segmentation-3.0\n\n"
    "samevoice convert segmentation --to torch --output segmentation.bin\n\n"
    "samevoice doctor",
)


class Dtype(StrEnum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Framework(StrEnum):
    mlx = "mlx"
    torch = "torch"


class Bits(StrEnum):
    four = "4"
    eight = "8"


class GroupSize(StrEnum):
    small = "32"
    usual = "64"
    large = "128"


def _choices(kind: type[StrEnum]) -> str:
    """In the help text rather than in the option's column, which would break the words."""
    *most, last = kind
    return f"{', '.join(most)} or {last}"


ModelTypeOption = Annotated[
    str,
    typer.Option(
        metavar="TYPE",
        help="What the source is, where it does not tell by itself: segmentation, embedding, plda, "
        "full, or an architecture.",
    ),
]


def _version(asked: bool) -> None:
    if asked:
        streams.echo(f"samevoice {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback behind an error.")
    ] = False,
) -> None:
    # --debug is taken out of the arguments in main(), so that it may stand anywhere.
    del version, debug


@app.command(
    rich_help_panel=CONVERTING,
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice convert reference:full --mlx-path out/full\n\n"
    "samevoice convert pyannote/speaker-diarization-community-1 --mlx-path full\n\n"
    "samevoice convert pytorch_model.bin --dtype bfloat16 -q --q-bits 8\n\n"
    "samevoice convert full --to torch --output full-torch",
)
def convert(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A hub id, a folder, a checkpoint file, or reference:segmentation, "
            "reference:embedding, reference:full. With --to torch: a bundle.",
        ),
    ] = None,
    hf_path: Annotated[
        str | None, typer.Option("--hf-path", metavar="SOURCE", help="The same as SOURCE.")
    ] = None,
    pytorch_path: Annotated[
        str | None, typer.Option("--pytorch-path", metavar="SOURCE", help="The same as SOURCE.")
    ] = None,
    mlx_path: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the bundle goes. [dim]\\[default: mlx_model][/]"),
    ] = None,
    model_type: ModelTypeOption = "auto",
    dtype: Annotated[
        Dtype, typer.Option(metavar="D", help=f"The weights become {_choices(Dtype)}.")
    ] = Dtype.float32,
    quantize: Annotated[
        bool, typer.Option("--quantize", "-q", help="Quantise the linear layers, as MLX does.")
    ] = False,
    q_bits: Annotated[
        Bits | None, typer.Option(help="Bits per weight. [dim]\\[default: 4][/]")
    ] = None,
    q_group_size: Annotated[
        GroupSize | None, typer.Option(help="Weights per scale. [dim]\\[default: 64][/]")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="R", help="Branch, tag or commit on the hub.")
    ] = None,
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Larger weights are split: 5GB, 500MB, 2GiB.")
    ] = "5GB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the tally, write nothing.")
    ] = False,
    to: Annotated[
        Framework, typer.Option(help="torch: from a bundle back to the checkpoint.")
    ] = Framework.mlx,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --to torch: where the checkpoint goes."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Leave the tally out.")] = False,
) -> None:
    """Convert a PyTorch checkpoint to an MLX bundle, every tensor accounted for."""
    chosen = _one_source(source, hf_path, pytorch_path)
    bits, group = _quantisation(quantize, q_bits, q_group_size)
    if to is Framework.torch:
        _refuse_with_torch(context)
        _to_torch(chosen, output, overwrite)
        return
    if output is not None:
        raise UsageError("--output goes with --to torch: the bundle's place is --mlx-path")
    _to_mlx(
        chosen,
        mlx_path or Path("mlx_model"),
        quiet,
        model_type=model_type,
        dtype=dtype.value,
        q_bits=bits,
        q_group_size=group,
        revision=revision,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )


def _one_source(*given: str | None) -> str:
    named = [source for source in given if source is not None]
    if len(named) != 1:
        what = "name a SOURCE" if not named else f"name one source, not {len(named)}"
        raise UsageError(f"{what}: SOURCE, --hf-path and --pytorch-path mean the same")
    return named[0]


def _quantisation(
    quantize: bool, q_bits: Bits | None, q_group_size: GroupSize | None
) -> tuple[int | None, int]:
    if not quantize and (q_bits or q_group_size):
        flag = "--q-bits" if q_bits else "--q-group-size"
        raise UsageError(f"{flag} does nothing without --quantize")
    return (int(q_bits or 4) if quantize else None), int(q_group_size or 64)


_ONLY_TO_MLX = (
    "mlx_path",
    "model_type",
    "dtype",
    "quantize",
    "revision",
    "max_shard_size",
    "dry_run",
)


def _refuse_with_torch(context: typer.Context) -> None:
    for name in _ONLY_TO_MLX:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} does not go with --to torch, which gives back what was there")


def _to_torch(bundle: str, output: Path | None, overwrite: bool) -> None:
    from samevoice.converters.restore import to_torch

    if output is None:
        raise UsageError("--to torch needs --output: a .bin file, or a folder for a pipeline")
    made = to_torch(bundle, output, overwrite=overwrite)
    streams.echo(
        f"{made.path}: {made.tensors} tensors, "
        + (
            "bit for bit as in the source"
            if made.exact
            else "rounded as the bundle is: these are not the source's values"
        )
    )


def _to_mlx(source: str, mlx_path: Path, quiet: bool, **options: Any) -> None:
    from samevoice import terminal
    from samevoice.converters.convert import convert as run

    with terminal.progress("writing", in_bytes=True) as progress:
        made = run(source, mlx_path, progress=progress, **options)
    _show(made, quiet)


def _show(made: Conversion, quiet: bool) -> None:
    from samevoice import terminal
    from samevoice.converters.inspect import of_conversion

    inspection = of_conversion(made, str(made.path or ""))
    console = terminal.console()
    if not quiet:
        terminal.tally(console, inspection)
    terminal.summary(console, inspection, made)


@app.command(
    rich_help_panel=CONVERTING,
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice inspect mlx_model\n\n"
    "samevoice inspect pyannote/segmentation-3.0 --json",
)
def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A bundle, or any SOURCE.")],
    model_type: ModelTypeOption = "auto",
    revision: Annotated[
        str | None, typer.Option(metavar="R", help="Branch, tag or commit on the hub.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every tensor of a bundle or checkpoint, and what became or would become of it."""
    from samevoice import terminal
    from samevoice.converters.inspect import inspect as run

    found = run(path, model_type=model_type, revision=revision)
    if as_json:
        streams.echo(json.dumps(found.as_dict(), indent=2))
    else:
        console = terminal.console()
        terminal.tally(console, found)
        terminal.summary(console, found)
    if found.changed:
        raise SamevoiceError(
            f"{len(found.changed)} files of {path} are not as they were written, first "
            f"{found.changed[0]!r}: convert again"
        )


app.command(
    rich_help_panel=COMPARING,
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice parity out/segmentation --source reference:segmentation\n\n"
    "samevoice parity seg --source pyannote/segmentation-3.0 --input a.wav\n\n"
    "samevoice parity segmentation --golden golden-segmentation",
)(comparing.parity)
app.command(
    rich_help_panel=COMPARING,
    epilog="[bold]Example[/bold]\n\nsamevoice gate out/parity/*/result.json",
)(comparing.gate)
app.command(
    rich_help_panel=COMPARING,
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice report out/parity/segmentation --open\n\n"
    "samevoice report float32/result.json float16/result.json --output page\n\n"
    "samevoice report out/parity/*/result.json --github-summary\n\n"
    "samevoice report --index out/parity",
)(reporting.report)
app.command(
    rich_help_panel=COMPARING,
    epilog="[bold]Examples[/bold]\n\nsamevoice gallery\n\n"
    "samevoice gallery pyannote/segmentation-3.0 --output gallery.md",
)(comparing.gallery)
app.command(
    rich_help_panel=COMPARING,
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice judge torch.safetensors mlx.safetensors --limit noise_ratio=200\n\n"
    "samevoice judge torch.npz mlx.npz --truth float64.npz",
)(comparing.judge)
app.command(
    rich_help_panel=RELEASING,
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice release out/full --result out/parity --output out/release\n\n"
    "samevoice release full --result full-parity --dry-run\n\n"
    "samevoice release seg --result p --output r --upload-repo me/seg --private",
)(releasing.release)
app.command(
    rich_help_panel=RELEASING,
    epilog="[bold]Examples[/bold]\n\nsamevoice verify out/release\n\n"
    "samevoice verify me/segmentation-3.0-mlx",
)(releasing.verify)
app.command(
    rich_help_panel=DIARIZING,
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice diarize meeting.wav --model full --output meeting.rttm\n\n"
    "samevoice diarize talks/ --model full --output out --format rttm,json,srt\n\n"
    "samevoice diarize call.m4a --model full --num-speakers 2 --output -",
)(diarizing.diarize)
app.add_typer(enrolling.app, name="speakers", rich_help_panel=DIARIZING)


@app.command(
    rich_help_panel=THE_MACHINE,
    epilog="[bold]Examples[/bold]\n\nsamevoice doctor\n\nsamevoice doctor --json\n\n"
    "samevoice doctor --self-test\n\nsamevoice doctor --self-test out/release",
)
def doctor(
    releases: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RELEASE",
            help="With --self-test: folders of releases to replay on every device, or bundles "
            "with golden data in their folder golden.",
        ),
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Run each fast form on every device beside the plain one, and say how far both "
            "are off. Exit 1 where one is wrong.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is installed, what MLX runs on, and how to mend what is missing."""
    from samevoice import terminal
    from samevoice.doctor import examine

    if self_test:
        _self_test(releases or [], as_json)
        return
    if releases:
        raise UsageError("a RELEASE goes with --self-test, which replays it")
    checks = examine()
    if as_json:
        streams.echo(json.dumps([check.as_dict() for check in checks], indent=2))
    else:
        terminal.doctor(terminal.console(), checks)


def _self_test(releases: list[Path], as_json: bool) -> None:
    from samevoice import terminal
    from samevoice.selftest import no_release, self_test

    if whys := [why for why in map(no_release, releases) if why]:
        raise UsageError(whys[0])
    found = []
    for one in self_test(releases):
        found.append(one)
        if not as_json:
            terminal.tried(terminal.console(), one)
    if as_json:
        streams.echo(json.dumps([one.as_dict() for one in found], indent=2))
    if wrong := [one for one in found if one.state == "broken"]:
        raise NotPassedError(
            f"{len(wrong)} of {len(found)} tests failed, first {wrong[0].name} on "
            f"{wrong[0].device}: {wrong[0].found}"
        )


app.command(
    rich_help_panel=THE_MACHINE,
    epilog="[bold]Examples[/bold]\n\nsamevoice bench --size quick\n\n"
    "samevoice bench networks --batch 1,8 --runs 5\n\n"
    "samevoice bench pipeline growth --model full --minutes 10 --growth 60",
)(benching.bench)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; whatever goes wrong becomes one line on standard error and an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    code = 0
    try:
        with streams.guarded(), _warnings_in_a_line(), _signals_unwind():
            _run([word for word in given if word != "--debug"])
    except typer.Exit as asked:
        code = asked.exit_code
    except (BrokenPipeError, SystemExit):  # the reader, such as head, has seen enough; rich exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as stopped:
        code = _fail("stopped", debug, 128 + (stopped.args or [signal.SIGINT])[0])
    except UsageError as error:
        code = _fail(f"{error.format_message()} (samevoice --help)", debug, 2)
    except Exception as error:
        said = streams.sentence(error)
        if said is None:
            first = f"{type(error).__name__}: {error}".splitlines()[0]
            first = streams.one_line(first, streams.LONGEST - 70)
            said = f"a fault of samevoice's own: {first}; --debug shows where"
        code = _fail(said, debug, getattr(error, "exit_code", 2))
    sys.exit(code)


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """SIGTERM and SIGHUP stop a command as Ctrl-C does, so that nothing temporary stays behind.

    Another signal, a second later or more, ends it at once, whatever it is doing.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    stopped = False

    def stop(number: int, _: object) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            raise KeyboardInterrupt(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heeded = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    # Native code delays what a handler does, but not the byte that a signal writes here.
    signal.set_wakeup_fd(write)
    threading.Thread(target=_end_at_second, args=(read,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write)


def _end_at_second(read: int) -> None:
    with open(read, "rb", buffering=0) as signals:
        if not signals.read(1):
            return
        # timeout(1) sends its signal to the process, and again to the group.
        first = time.monotonic()
        while number := signals.read(1):
            if time.monotonic() - first > 1:
                os._exit(128 + number[0])


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """What samevoice itself warns of, without the place in its code; others' as Python has it."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, SlowerWarning):
                before(message, category, filename, lineno, file, line)
                return
            from samevoice import terminal

            terminal.note(terminal.stderr(), str(message))

        warnings.showwarning = show
        yield


def _run(words: list[str]) -> None:
    for before, word in itertools.pairwise(words):  # Path("") would be the current folder
        if word == "" or (word.startswith("--") and word.endswith("=")):
            named = word[:-1] or (before if before.startswith("-") else "an argument")
            raise UsageError(f"{named} is empty: is a variable unset?")
    # Not app(): it keeps Ctrl-C and broken pipes to itself, and says nothing of either.
    command = typer.main.get_command(app)
    with command.make_context("samevoice", words or ["--help"]) as context:
        command.invoke(context)


def _fail(sentence: str, debug: bool, code: int) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    said = f"samevoice: {sentence}"
    streams.complain(streams.one_line(said, len(said) if debug else streams.LONGEST))
    return code
