"""Running a command: whatever goes wrong becomes one line on standard error and an exit code."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from samevoice.cli import streams, terminal
from samevoice.cli.commands import app
from samevoice.cli.options import UsageError
from samevoice.errors import SlowerWarning


def main(arguments: list[str] | None = None) -> None:
    """The samevoice command, with these words or the process's own; it always exits."""
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
            first = streams.internal(error).splitlines()[0]
            said = f"{streams.one_line(first, streams.LONGEST - 40)}; --debug shows where"
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
    """samevoice's own warnings without their place in the code; others as Python shows them."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, SlowerWarning):
                terminal.note(str(message), terminal.stderr())
            else:
                before(message, category, *place, **more)

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
