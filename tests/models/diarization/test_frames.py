"""Frames and chunks in time: hand-worked, and against pyannote.core's own windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.models.diarization.frames import Chunks, Frames

FRAMES = Frames()


def test_chunks_start_at_these_frames() -> None:
    assert [FRAMES.first(chunk) for chunk in range(4)] == [0, 59, 119, 178]


def test_one_chunk_spans_594_frames() -> None:
    # 10 s / 0.016875 s = 592.6, and the frame that begins there counts.
    assert FRAMES.total(1) == 594
    assert FRAMES.total(21) == 1779


def test_the_first_frame_lies_around_31_ms() -> None:
    assert FRAMES.middles(1)[0] == pytest.approx(0.03096875)


@pytest.mark.parametrize(
    ("samples", "chunks"),
    [(1, 1), (159_999, 1), (160_000, 1), (160_001, 2), (176_000, 2), (176_001, 3), (480_000, 21)],
)
def test_a_remainder_makes_a_chunk(samples: int, chunks: int) -> None:
    assert FRAMES.num_chunks(samples) == chunks


def test_the_same_windows_as_pyannote_core() -> None:
    core = pytest.importorskip("pyannote.core")
    window = core.SlidingWindow(start=0.0, duration=991 / 16000, step=270 / 16000)
    chunks = core.SlidingWindow(start=0.0, duration=10.0, step=1.0)
    count = 2000
    assert [window[k].middle for k in range(count)] == FRAMES.middles(count).tolist()
    firsts = [window.closest_frame(chunks[c].start + 0.5 * window.duration) for c in range(count)]
    assert [FRAMES.first(c) for c in range(count)] == firsts


SMALL = Frames(duration=10 / 16000, step=3 / 16000)


@given(st.lists(st.integers(0, 25), max_size=12), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_chunks_do_not_depend_on_blocks_or_batches(lengths: list[int], batch: int) -> None:
    audio = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    blocks = np.split(audio, np.cumsum(lengths)[:-1]) if lengths else []
    chunks = Chunks(blocks, SMALL, batch)
    batches = list(chunks)
    assert all(len(one) <= batch for one in batches)
    found = np.concatenate(batches)
    assert chunks.samples == len(audio)
    assert len(found) == SMALL.num_chunks(len(audio))
    padded = np.pad(audio, (0, 20))
    for k, chunk in enumerate(found):
        assert chunk.tolist() == padded[3 * k : 3 * k + 10].tolist()


@pytest.mark.parametrize(
    ("samples", "sizes"), [(19, [2, 2]), (16, [2, 1]), (17, [2, 1, 1]), (20, [2, 2, 1]), (4, [1])]
)
def test_a_padded_chunk_may_be_a_batch_of_its_own(samples: int, sizes: list[int]) -> None:
    audio = np.arange(samples, dtype=np.float32)
    found = list(Chunks([audio], SMALL, 2, apart=True))
    assert [len(one) for one in found] == sizes
    together = np.concatenate(list(Chunks([audio], SMALL, 2)))
    assert np.concatenate(found).tolist() == together.tolist()


def test_chunks_are_made_as_the_audio_comes() -> None:
    read = []

    def blocks() -> Iterator[np.ndarray]:
        for k in range(1000):
            read.append(k)
            yield np.full(7, k, dtype=np.float32)

    chunks = iter(Chunks(blocks(), SMALL, 2))
    next(chunks)
    assert len(read) == 2  # 13 samples make two chunks
    next(chunks)
    assert len(read) == 3  # of 14 the first 6 are done with; 13 again
