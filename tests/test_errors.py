"""What an error names where there are too many names for one line."""

from __future__ import annotations

import pytest

from samevoice.errors import nearest

NAMES = ("CAMPPlus", "SpeechBrainECAPA", "WeSpeakerECAPA", "ReDimNet2B0", "ReDimNet2B1")


@pytest.mark.parametrize(
    ("word", "close"),
    [
        ("campplus", "CAMPPlus"),
        ("CAMPlus", "CAMPPlus"),
        ("ecapa", "SpeechBrainECAPA or WeSpeakerECAPA"),
        ("ReDimNet2B0x", "ReDimNet2B0 or ReDimNet2B1"),
    ],
)
def test_the_likeliest_are_named_before_what_lists_all(word: str, close: str) -> None:
    assert nearest(word, NAMES, "ls lists all") == f"nearest is {close}; ls lists all"


@pytest.mark.parametrize("word", ["nonsense", "", "b", 3, None])
def test_where_nothing_is_near_only_the_list_is_named(word: object) -> None:
    assert nearest(word, NAMES, "ls lists all") == "ls lists all"
