"""The README says what is true: its Python runs, its commands are understood."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import typer

import samevoice
from samevoice.cli import app
from samevoice.converters.reference import sample

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README takes for granted: a pipeline and a recording."""
    folder = tmp_path_factory.mktemp("readme")
    samevoice.convert(references["full"], folder / "community-1")
    soundfile.write(folder / "meeting.wav", sample()[12 * 16_000 : 15 * 16_000], 16_000)
    return folder


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_its_python_runs(number: int, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[number]],
        cwd=place,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    assert "False" not in done.stdout


def commands() -> list[str]:
    typed = [line for block in blocks("sh") for line in block.splitlines()]
    typed += [
        line[2:] for block in blocks("console") for line in block.splitlines() if line[0] == "$"
    ]
    return [line.partition("#")[0].strip() for line in typed if line.startswith("samevoice ")]


def test_there_are_commands_and_python() -> None:
    assert len(commands()) >= 10
    assert len(blocks("python")) == 3


@pytest.mark.parametrize("line", commands())
def test_its_commands_are_understood(line: str) -> None:
    """Every flag exists and every value is one that the command takes."""
    _, name, *words = shlex.split(line)
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, list(words))


def test_its_make_targets_exist() -> None:
    made = (ROOT / "Makefile").read_text()
    asked = set(re.findall(r"make ([a-z]+)", TEXT)) - {"a"}
    assert asked
    assert all(f"\n{target}:" in made for target in asked)
