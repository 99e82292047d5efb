"""The samevoice command: one file for each group of commands. Heavy imports wait inside."""

import gc

# Imports make many objects and no garbage; looking for it takes a tenth of a short command.
gc.set_threshold(100_000)

from samevoice.cli.commands import app  # noqa: E402
from samevoice.cli.running import main  # noqa: E402

__all__ = ["app", "main"]
