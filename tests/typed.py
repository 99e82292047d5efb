"""What a command that was typed in a test answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from samevoice.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


def ended(*words: object) -> int:
    """The exit code of ``samevoice`` with these words, in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    code = stopped.value.code
    assert isinstance(code, int)
    return code
