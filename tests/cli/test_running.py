"""What scripts rely on: exit codes, one line on standard error, nothing left behind."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import made_up
import pytest
import typer
from hub import Hub
from safetensors.numpy import save_file
from typed import Answer, Run

import samevoice
from samevoice import cli, doctor

COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
SAMEVOICE = (sys.executable, "-m", "samevoice")
SECRET = "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"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def answer(*words: str) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(words))
        said = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), said.out, said.err)

    return answer


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "small.safetensors"
    save_file(made_up.pyannet_arrays(), path)
    return path


@pytest.fixture(scope="module")
def bundle(source: Path) -> Path:
    target = source.parent / "bundle"
    samevoice.convert(source, target)
    return target


# --- bad usage ----------------------------------------------------------------------------------

BAD_USAGE = {
    "convert": "name a SOURCE",
    "convert a b": "unexpected extra argument",
    "convert a --hf-path b": "name one source, not 2",
    "convert --hf-path a --pytorch-path b": "name one source, not 2",
    "convert ''": "an argument is empty",
    "convert nowhere": "no such file or folder",
    "convert reference:voice": "choose one of reference:segmentation",
    "convert a --mlx-path": "requires an argument",
    "convert a --dtype int8": "'int8' is not one of 'float32', 'float16', 'bfloat16'",
    "convert a --model-type voice": "'voice' is not one of",
    "convert a --to jax": "No such option: --to",
    "convert a -q --q-bits 5": "'5' is not one of '4', '6', '8'",
    "convert a -q --q-group-size 48": "'48' is not one of '32', '64', '128'",
    "convert a --q-bits 4": "--q-bits does nothing without --quantize",
    "convert a --q-group-size 32": "--q-group-size does nothing without --quantize",
    "convert a --max-shard-size much": "'much' is no size",
    "convert a --output b": "No such option: --output",
    "export": "Missing argument 'BUNDLE'",
    "export a": "Missing option '--output'",
    "export a --output b.bin": "a has no config.json",
    "export a --output b.bin --mlx-path c": "No such option: --mlx-path",
    "export a --output b.bin --dtype float16": "No such option: --dtype",
    "export a --output b.bin -q": "No such option: -q",
    "export a --output b.bin --dry-run": "No such option: --dry-run",
    "convert a --frobnicate": "No such option: --frobnicate",
    "inspect": "Missing argument 'PATH'",
    "inspect nowhere": "no such file or folder",
    "doctor now": "a RELEASE goes with --self-test",
    "frobnicate": "No such command 'frobnicate'",
    "--frobnicate": "No such option: --frobnicate",
    "''": "No such command ''",
}


@pytest.mark.parametrize(("words", "said"), BAD_USAGE.items(), ids=list(BAD_USAGE))
def test_bad_usage_is_one_line_and_two(run: Run, tmp_path: Path, words: str, said: str) -> None:
    answer = run(*shlex.split(words))
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.startswith("samevoice: ")
    assert answer.err.count("\n") == 1
    assert answer.err.endswith("\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "--debug convert nowhere",
        "convert --debug nowhere",
        "convert nowhere --debug",
        "frobnicate --debug",
        "export a --debug",
    ],
)
def test_debug_shows_the_traceback_wherever_it_stands(run: Run, words: str) -> None:
    answer = run(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("Traceback (most recent call last):")
    plain = run(*words.replace("--debug", "").split())
    assert answer.err.endswith(f"\n{plain.err}")


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_fault_of_its_own_is_one_line_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, debug: tuple[str, ...]
) -> None:
    def faulty(*_: Any, **__: Any) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("samevoice.converters.inspect.inspect", faulty)
    answer = run("inspect", "a", *debug)
    assert answer.code == 2
    assert ("Traceback" in answer.err) is bool(debug)
    last = answer.err.splitlines()[-1]
    assert last == (
        "samevoice: an internal error of samevoice: RuntimeError: first line; --debug shows where"
    )


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)], ids=str)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_fits_and_has_examples(run: Run, words: list[str], flag: str) -> None:
    answer = run(*words, flag)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = re.split(r"\nExamples?\n", "\n".join(line.strip() for line in lines))[-1]
    assert examples(*words)
    for example in examples(*words):
        assert f"\n{example}\n" in shown, "an example must stay on one line, to be copied"


def examples(name: str = "") -> list[str]:
    """The lines of a command's help, or of the whole one's, that can be typed."""
    epilog = COMMANDS[name].epilog if name else cli.app.info.epilog
    return [line for line in str(epilog).split("\n\n") if line.startswith("samevoice ")]


def test_every_example_is_understood() -> None:
    shown = [example for name in ("", *COMMANDS) for example in examples(name)]
    assert len(shown) > len(COMMANDS)
    for example in shown:
        _, name, *words = shlex.split(example)
        COMMANDS[name].make_context(name, words)  # raises where an option is gone


def test_no_words_at_all_ask_for_help(run: Run) -> None:
    assert run() == run("--help")


def test_the_version(run: Run) -> None:
    answer = run("--version")
    assert (answer.code, answer.err) == (0, "")
    assert re.fullmatch(
        rf"samevoice {re.escape(samevoice.__version__)}( \([0-9a-f]+(-dirty)?\))?\n", answer.out
    )


# --- pipes and signals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["inspect"], ["inspect", "--json"], ["doctor"], ["convert", "--help"], ["--version"]]
)
def test_a_reader_that_has_seen_enough_is_no_error(bundle: Path, words: list[str]) -> None:
    words = [*words, str(bundle)] if words[0] == "inspect" else words
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*SAMEVOICE, *words], text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()  # nobody reads, as behind `| head -0`
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_conversion_into_a_closed_pipe_is_whole(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    command = [*SAMEVOICE, "convert", str(source), "--mlx-path", str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 0
    assert samevoice.inspect(target).changed == ()


# The conversion stops where the first file has been written, and says so.
STUCK = """
import os, signal, sys, time

def stuck(file):
    print("writing", flush=True)
    time.sleep(60)

# A shell that starts a job in the background makes it ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's commands inherit that it is ignored
os.fsync = stuck
from samevoice.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_ctrl_c_leaves_what_was_there(
    source: Path, bundle: Path, tmp_path: Path, overwrite: bool, debug: bool
) -> None:
    target = tmp_path / "made"
    words = [str(source), "--mlx-path", str(target), "--dtype", "float16"]
    if overwrite:
        shutil.copytree(bundle, target)
        words.append("--overwrite")
    answer = interrupted("convert", *words, *["--debug"] * debug)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err.splitlines()[-1] == "samevoice: stopped"
    assert ("Traceback" in answer.err) is debug
    assert debug or answer.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [target] * overwrite
    if overwrite:
        assert samevoice.inspect(target).changed == ()
        assert samevoice.inspect(target).config["dtype"] == "float32"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_unwinds_whatever_signal_stops_it(
    source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Twice at once, as timeout(1) sends it."""
    words = ("convert", str(source), "--mlx-path", str(tmp_path / "made"))
    answer = interrupted(*words, numbers=(number, number))
    assert answer == Answer(128 + number, "", "samevoice: stopped\n")
    assert list(tmp_path.iterdir()) == []


NATIVE = """
import hashlib
from threading import Timer
from samevoice import doctor

def stuck():
    Timer(0.5, print, ["working"], {"flush": True}).start()  # once the other is under way
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # for minutes, and without Python

doctor.examine = stuck
from samevoice.cli import main
main(["doctor"])
"""


def test_a_second_signal_ends_it_at_once_even_in_native_code() -> None:
    command = [sys.executable, "-c", NATIVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        time.sleep(0.5)  # from the line's last letter into the native code
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.2)
        process.terminate()
        assert process.wait(5) == 128 + signal.SIGTERM


def test_what_was_told_to_ignore_a_signal_ignores_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nohup tells it; and Python's own handlers are back when the command has ended."""

    def examine() -> list[Any]:
        signal.raise_signal(signal.SIGHUP)
        return []

    monkeypatch.setattr(doctor, "examine", examine)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("doctor", "--json").code == 0
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert run("doctor", "--json").code == 128 + signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def interrupted(*words: str, numbers: Iterable[int] = (signal.SIGINT,)) -> Answer:
    """A signal in the middle of writing."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", STUCK, *words]
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "writing\n"
            for number in numbers:
                process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    return Answer(process.returncode, out, err)


# --- the token ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    files = {"pytorch_model.bin": b"no checkpoint"}
    with Hub({"org/open": files, "org/gated": files, "org/busy": files}) as hub:
        hub.repos["org/gated"].licensed = set()
        hub.repos["org/busy"].status = 503
        yield hub


@pytest.mark.long
@pytest.mark.parametrize("debug", [(), ("--debug",)])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("convert org/gated", "is gated"),
        ("convert org/none", "no repository"),
        ("convert org/busy", "busy or broken"),
        ("convert org/open", "pytorch_model.bin"),
        ("convert org/open --revision gone", "no revision"),
        ("inspect org/gated", "is gated"),
        ("convert org/open --frobnicate", "No such option"),
    ],
)
def test_no_failing_command_shows_the_token(
    hub: Hub, tmp_path: Path, words: str, said: str, debug: tuple[str, ...]
) -> None:
    answer = with_token(SECRET, hub.url, tmp_path, *words.split(), *debug)
    assert answer.code == 2
    assert said in answer.err
    assert ("Traceback" in answer.err) is bool(debug)
    assert SECRET not in answer.out + answer.err


@pytest.mark.long
@pytest.mark.parametrize("debug", [(), ("--debug",)])
@pytest.mark.parametrize(
    ("token", "url", "said"),
    [
        (SECRET, "http://127.0.0.1:9", "no network"),
        (f"{SECRET}\u00e9", "http://127.0.0.1:9", "character that no token has"),
        (f"{SECRET}\nmore", "http://127.0.0.1:9", ""),
    ],
)
def test_nor_without_a_hub(
    tmp_path: Path, token: str, url: str, said: str, debug: tuple[str, ...]
) -> None:
    answer = with_token(token, url, tmp_path, "convert", "org/any", *debug)
    assert answer.code == 2
    assert said in answer.err
    assert SECRET not in answer.out + answer.err


def with_token(token: str, url: str, folder: Path, *words: str) -> Answer:
    settings = {"HF_TOKEN": token, "HF_ENDPOINT": url, "HF_HOME": str(folder / "hub")}
    done = subprocess.run(
        [*SAMEVOICE, *words],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def test_a_command_leaves_the_environment_as_it_was() -> None:
    before = dict(os.environ)
    with pytest.raises(SystemExit):
        cli.main(["inspect", "/nowhere"])
    assert dict(os.environ) == before
