"""The samevoice command: one file for each group of commands. Heavy imports wait inside."""

from samevoice.cli.commands import app
from samevoice.cli.running import main

__all__ = ["app", "main"]
