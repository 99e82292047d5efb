"""The samevoice command: one file for each group of commands. Heavy imports wait inside."""

import atexit
import gc

# Imports make many objects and no garbage; looking for it takes a tenth of a short command.
gc.set_threshold(100_000)
# The last look before the process ends takes 0.06 s.
atexit.register(gc.freeze)

from samevoice.cli.commands import app  # noqa: E402
from samevoice.cli.running import main  # noqa: E402

__all__ = ["app", "main"]
