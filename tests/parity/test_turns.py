"""The error rate that needs no pyannote.metrics says what pyannote.metrics says."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.parity.turns import Errors, errors

A, B, C = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"


def test_by_hand() -> None:
    said = ((0.0, 6.0, A), (4.0, 10.0, B))
    got = ((0.0, 6.0, B), (4.0, 9.0, A), (10.0, 11.0, A))
    assert errors(said, got) == Errors(2.0, 12.0)  # one second missed, one too many
    assert errors(said, said).rate == 0.0
    thirds = [(k / 3, (k + 0.7) / 3, f"{k % 4}") for k in range(50)]
    assert errors(thirds, thirds).wrong == 0.0  # to the last bit
    assert errors(said, ()) == Errors(12.0, 12.0)
    assert errors((), got).rate == 1.0
    assert errors((), ()) == Errors()
    # One voice on our side where there are two: the shorter one is confused.
    assert errors(((0.0, 6.0, A), (6.0, 10.0, B)), ((0.0, 10.0, C),)) == Errors(4.0, 10.0)
    assert (Errors(1.0, 4.0) + Errors(0.0, 6.0)).rate == 0.1


@st.composite
def talks(draw: Any) -> list[tuple[float, float, str]]:
    """Turns on a grid of eighths; nobody overlaps himself, as in any diarization."""
    found: list[tuple[float, float, str]] = []
    for who in draw(st.lists(st.sampled_from("ABCD"), unique=True, max_size=4)):
        edges = sorted(draw(st.sets(st.integers(0, 80), max_size=8)))
        pairs = zip(edges[::2], edges[1::2], strict=False)
        found += [(start / 8, end / 8, who) for start, end in pairs]
    return found


@given(talks(), talks())
@settings(max_examples=100, deadline=None)
def test_as_pyannote_metrics(said: Any, got: Any) -> None:
    pytest.importorskip("pyannote.metrics")
    from samevoice.parity.pipeline import outcome

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = outcome.errors(said, got, 10.0)
    ours = errors(said, got)
    assert ours.wrong == pytest.approx(theirs.wrong, abs=1e-9)
    assert ours.total == pytest.approx(theirs.total, abs=1e-9)
