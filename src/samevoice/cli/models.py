"""models: trained weights that anybody may fetch, and what the gated ones need."""

from __future__ import annotations

from typing import Annotated

from samevoice.cli import streams, terminal
from samevoice.cli.options import AsJson, flag

GATED = (
    "Gated models on the hub, such as pyannote/speaker-diarization-community-1, need an account: "
    "accept their conditions on the model's page, then run hf auth login."
)


def models(
    as_json: AsJson = False,
    references: Annotated[
        bool,
        flag("--references", "List the architectures that have a made-up reference:NAME."),
    ] = False,
) -> None:
    """List the open models: what they are, under which licence, and where they come from."""
    from samevoice.converters.reading.open_models import OPEN, SCHEME

    if references:
        from samevoice.family import find

        named = [list(one.architectures) for one in find().families if one.reference]
        lines = "\n".join(" ".join(names) for names in named)
        streams.echo_json(named) if as_json else streams.echo(lines)
        return
    if as_json:
        streams.echo_json([{"name": SCHEME + name, **one.as_dict()} for name, one in OPEN.items()])
        return
    for name, one in OPEN.items():
        title = f"{one.what}; {one.nbytes / 1e6:.0f} MB, {one.licence.id}"
        terminal.marked(f"[bold]{SCHEME}{name}[/]  ", title)
        terminal.say(f"  for         {one.good_for}")
        terminal.say(f"  trained on  {one.trained_on}")
        terminal.say(f"  by          {one.licence.attribution}")
        source = one.file.word if one.file else "its parts"
        terminal.say(f"  from        {source} ({one.download / 1e6:.0f} MB to fetch)")
    terminal.say("")
    terminal.say(GATED)
