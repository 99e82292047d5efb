"""Every command of samevoice as a page of Markdown, from the command itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer
from rich.text import Text

from samevoice.cli import app

LINE = "samevoice "


def reference() -> str:
    """Panel by panel as ``samevoice --help`` has them, each command with all that it takes."""
    group: Any = typer.main.get_command(app)
    lines = [*_command(group, "samevoice")]
    for panel, found in groupby(group.commands.values(), lambda one: one.rich_help_panel):
        lines += [f"## {panel}", ""]
        for one in found:
            lines += [f"### {one.name}", "", *_command(one, f"samevoice {one.name}")]
            for below in getattr(one, "commands", {}).values():
                name = f"{one.name} {below.name}"
                lines += [f"### {name}", "", *_command(below, f"samevoice {name}")]
    return "\n".join(lines)


def _command(command: Any, name: str) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    yield from (_escaped(command.help), "", "```text")
    yield " ".join([name, *command.collect_usage_pieces(context)])
    yield from ("```", "", "```{program} " + name, "```", "")
    for parameter in command.get_params(context):
        if parameter.get_help_record(context) and parameter.name != "help":
            yield from _parameter(parameter, context)
    examples = [one for one in (command.epilog or "").splitlines() if one.startswith(LINE)]
    if examples:
        yield from ("```sh", *examples, "```", "")


def _parameter(parameter: Any, context: Any) -> Iterator[str]:
    names, said = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        names = parameter.metavar
    default = said.removeprefix(parameter.help)  # which is no markup
    said = Text.from_markup(parameter.help).plain + default
    yield from ("```{option} " + names, _escaped(said), "```", "")


def _escaped(text: str) -> str:
    """As it stands, where Markdown would read more into it."""
    return re.sub(r"([\\`*_<>\[\]])", r"\\\1", text)
