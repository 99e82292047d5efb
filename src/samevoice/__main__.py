"""python -m samevoice: the same as the command."""

from samevoice.cli import main

main()
