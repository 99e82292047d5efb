"""From clustered chunks back to one timeline: counts, activations, the loudest few, turns.

C chunks, F frames a chunk, S slots, K speakers, T frames of the whole recording.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from samevoice.models.diarization.clustering import NOBODY
from samevoice.models.diarization.frames import Frames

SHORTEST = 1e-6  # seconds; pyannote.core takes a segment below that for empty


def count_speakers(segmentations: np.ndarray, frames: Frames) -> np.ndarray:
    """(C, F, S) -> (T,): how many speak at once, averaged over the chunks that cover a frame."""
    total = frames.total(len(segmentations))
    votes, chunks = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    for chunk, slots in enumerate(segmentations):
        where = slice(frames.first(chunk), frames.first(chunk) + len(slots))
        votes[where] += slots.sum(axis=1, dtype=np.int64)
        chunks[where] += 1
    # float32 and halves to even, as the reference: 2.5 speakers are 2.
    mean = votes.astype(np.float32) / np.maximum(chunks, 1).astype(np.float32)
    return np.rint(mean).astype(np.int64)


def activations(segmentations: np.ndarray, hard: np.ndarray, frames: Frames) -> np.ndarray:
    """(C, F, S), (C, S) -> (T, K): how many chunks say that a speaker is active.

    Of scores it is their sum, in float32 as the reference adds them up.
    """
    speakers, kind = int(hard.max(initial=NOBODY)) + 1, segmentations.dtype
    votes = np.zeros(
        (frames.total(len(segmentations)), max(speakers, 0)),
        dtype=np.float32 if np.issubdtype(kind, np.floating) else np.int32,
    )
    for chunk, (slots, clusters) in enumerate(zip(segmentations, hard, strict=True)):
        where = slice(frames.first(chunk), frames.first(chunk) + len(slots))
        for cluster in np.unique(clusters[clusters != NOBODY]):
            votes[where, cluster] += slots[:, clusters == cluster].max(axis=1)
    return votes


def discretise(votes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(T, K), (T,) -> (T, K) of 0 and 1: at each frame the ``counts`` speakers with the most votes.

    Of equal ones the lower number wins. (The reference leaves that to an unstable sort.)
    """
    most = int(counts.max(initial=0))
    if votes.shape[1] < most:
        # More speak at once than there are clusters: speakers without a voice of their own.
        votes = np.pad(votes, ((0, 0), (0, most - votes.shape[1])))
    order = np.argsort(-votes, axis=1, kind="stable")
    chosen = np.arange(votes.shape[1]) < counts[:, None]
    speakers = np.zeros(votes.shape, dtype=np.uint8)
    np.put_along_axis(speakers, order, chosen.astype(np.uint8), axis=1)
    return speakers


def turns(
    discrete: np.ndarray, frames: Frames, min_duration_off: float = 0.0
) -> list[tuple[float, float, int]]:
    """(T, K) -> start, end, speaker: between the middles of frames, in order of time."""
    middles = frames.middles(len(discrete))
    found: list[tuple[float, float, int]] = []
    for speaker, active in enumerate(discrete.T):
        spans = [(float(middles[a]), float(middles[b])) for a, b in _runs(active)]
        spans = [(start, end) for start, end in spans if end - start > SHORTEST]
        found += [(start, end, speaker) for start, end in joined(spans, min_duration_off)]
    # Equal segments are ordered by their tracks' letters, which a speaker has one of; but where
    # gaps are closed each turn gets the next one, speakers in the order of their names.
    letters = [track(speaker) for _, _, speaker in found]
    if min_duration_off > 0:
        found.sort(key=lambda turn: str(turn[2]))
        letters = [track(number) for number in range(len(found))]
    pairs = sorted(zip(found, letters, strict=True), key=lambda pair: (pair[0][:2], pair[1]))
    return [turn for turn, _ in pairs]


def _runs(active: np.ndarray) -> Iterator[tuple[int, int]]:
    """(T,) -> first frame, and the frame after the last one (the last itself at the very end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active, [0]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        yield int(start), min(int(end), len(active) - 1)


def joined(spans: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Spans of one speaker with gaps shorter than that many seconds closed."""
    found: list[tuple[float, float]] = []
    for start, end in spans:
        if found and start - found[-1][1] < gap:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def track(number: int) -> str:
    """A, B, ... Z, AA, AB ...: what pyannote.core orders equal segments by."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def names(found: list[tuple[float, float, int]]) -> dict[int, str]:
    """Cluster -> SPEAKER_00 and so on, clusters sorted as strings: 0, 1, 10, 2."""
    clusters = sorted({speaker for _, _, speaker in found}, key=str)
    return {cluster: f"SPEAKER_{k:02d}" for k, cluster in enumerate(clusters)}
