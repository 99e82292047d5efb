"""Processes that hear beside this one: the same bytes, whoever hears what, and whatever happens."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from samevoice.models import fast
from samevoice.models.diarization import crew
from samevoice.models.diarization.frames import windows
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

RATE = 16_000
CHUNK = 10 * RATE

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")


def parent_of(process: int | str) -> int | None:
    """None of a process that has ended."""
    try:
        _, _, after = Path(f"/proc/{process}/stat").read_text().rpartition(")")
    except OSError:
        return None
    state, parent = after.split()[:2]
    return None if state == "Z" else int(parent)


def others() -> set[int]:
    """The processes that this one has started and that are alive."""
    processes = (int(one.name) for one in Path("/proc").glob("[0-9]*"))
    return {one for one in processes if parent_of(one) == os.getpid()}


def until(true: Callable[[], object], what: str) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within a minute: {what}")


Joined = Callable[..., SpeakerDiarizationPipeline]


@pytest.fixture
def joined(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Joined]:
    """A pipeline, as soon as another process hears with it."""
    monkeypatch.setattr(crew, "all_cores", lambda: 2)
    made = []

    def join(fast: bool = False) -> SpeakerDiarizationPipeline:
        pipeline = SpeakerDiarizationPipeline(bundle, "cpu", fast=fast)
        made.append(pipeline._crew)
        pipeline._crew.grow(2 * crew.WORTH)
        until(lambda: pipeline._crew.ready, "another process is ready")
        return pipeline

    yield join
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def speech(talk: np.ndarray) -> np.ndarray:
    """Seven chunks."""
    return np.resize(talk, CHUNK + 6 * RATE)


@pytest.mark.parametrize("fast", [False, True])
def test_a_recording_gets_the_same_bytes(
    bundle: Path, joined: Joined, speech: np.ndarray, fast: bool
) -> None:
    beside, alone = joined(fast), SpeakerDiarizationPipeline(bundle, "cpu", fast=fast)
    found, expected = (one.analyse([speech]) for one in (beside, alone))
    assert found.embeddings.tobytes() == expected.embeddings.tobytes()
    assert found.segmentations.tobytes() == expected.segmentations.tobytes()


def test_the_other_process_answers_what_this_one_would(joined: Joined, speech: np.ndarray) -> None:
    pipeline = joined()
    masks = np.ones((7, pipeline.frames.per_chunk, 3), np.float32)
    asked = {
        "said": (speech,),
        "voices": (windows(speech, CHUNK, RATE), masks, np.zeros(256, np.float32)),
    }
    for name, arguments in asked.items():
        task = pipeline._crew.add(name, *arguments)
        until(partial(getattr, task, "done"), f"{name} is answered")  # nobody does it here
        expected = getattr(pipeline, name)(*arguments)
        pairs = [(task.made, expected)] if name == "voices" else [(task.made[0], expected[0])]
        assert all(one.tobytes() == other.tobytes() for one, other in pairs)


def test_a_process_that_is_killed_loses_nothing(
    bundle: Path, joined: Joined, speech: np.ndarray
) -> None:
    before = others()
    pipeline = joined()
    (other,) = others() - before
    tasks = [pipeline._crew.add("said", speech) for _ in range(4)]
    os.kill(other, signal.SIGKILL)
    expected = pipeline.said(speech)[0].tobytes()
    assert [made[0].tobytes() for made in pipeline._crew.made(tasks)] == [expected] * 4
    until(lambda: not pipeline._crew.ready, "the loss is noticed")
    assert pipeline.analyse([speech]).samples == len(speech)


def test_a_fault_is_told_as_it_is_here(joined: Joined) -> None:
    pipeline = joined()
    for name, arguments, said in (
        ("said", (np.zeros(5, np.float32),), "window shape"),
        ("sung", (), "no attribute 'sung'"),
    ):
        task = pipeline._crew.add(name, *arguments)
        with pytest.raises((ValueError, AttributeError), match=said):
            pipeline._crew.made([task])


def test_where_no_process_can_begin_all_is_heard_here(
    bundle: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "all_cores", lambda: 2)
    monkeypatch.setattr(sys, "executable", str(bundle / "no-python"))
    pipeline = SpeakerDiarizationPipeline(bundle, "cpu")
    ended = threading.active_count()
    pipeline._crew.grow(2 * crew.WORTH)
    until(lambda: threading.active_count() <= ended, "it was tried")
    assert pipeline.analyse([speech]).samples == len(speech)


def test_another_bundle_in_its_place_is_not_heard_with(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "all_cores", lambda: 2)
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    pipeline = SpeakerDiarizationPipeline(folder, "cpu")
    os.utime(folder / "embedding" / "model.safetensors", (0, 0))  # converted again
    before, ended = others(), threading.active_count()
    pipeline._crew.grow(2 * crew.WORTH)
    until(lambda: others() <= before and threading.active_count() <= ended, "it has ended")
    assert not pipeline._crew.ready


def test_plain_forms_are_not_asked_of_others(joined: Joined, speech: np.ndarray) -> None:
    pipeline = joined()
    with fast.plain_forms():
        pipeline.analyse([speech[:CHUNK]])
    assert not pipeline._crew.ready


def test_it_ends_with_the_pipeline(joined: Joined) -> None:
    before = others()
    pipeline = joined()
    assert others() - before
    del pipeline
    gc.collect()
    until(lambda: not others() - before, "the other process has ended")


def test_it_ends_with_this_process(bundle: Path) -> None:
    script = f"""
import pathlib, time
from samevoice.models import fast
from samevoice.models.diarization import crew
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
crew.all_cores = lambda: 2
pipeline = SpeakerDiarizationPipeline({str(bundle)!r}, "cpu")
pipeline._crew.grow(2 * crew.WORTH)
while not pipeline._crew.ready:
    time.sleep(0.05)
print(*(one.read_text() for one in pathlib.Path("/proc/self/task").glob("*/children")))
"""
    # Without the guard that multiprocessing wants of a script.
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    (other,) = ended.stdout.split()
    assert not ended.stderr
    until(lambda: parent_of(other) is None, "the other process has ended")


def test_heavy_weights_are_held_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tended: list[object] = []
    monkeypatch.setattr(crew, "all_cores", lambda: 2)
    monkeypatch.setattr(crew, "_tend", lambda *asked: tended.append(asked))
    files = [bundle / part / "model.safetensors" for part in ("segmentation", "embedding")]
    held = sum(file.stat().st_size for file in files)
    for heavy, started in ((held // 2, 0), (2 * held, 1)):
        monkeypatch.setattr(crew, "HEAVY", heavy)
        pipeline = SpeakerDiarizationPipeline(bundle, "cpu")
        pipeline._crew.grow(100)
        until(partial(lambda count: len(tended) == count, started), f"{started} are started")


@pytest.mark.parametrize(
    ("cores", "chunks", "free", "started"),
    [
        (1, 1000, 2**40, 0),
        (2, 15, 2**40, 0),
        (2, 16, 2**40, 1),
        (4, 1000, 2**40, 3),
        (4, 99, 0, 0),
        (4, 32, 2.1 * crew.ROOM, 2),  # the narrow networks' weights are a hundredth of it
        (4, 32, 1.001 * crew.ROOM, 0),
    ],
)
def test_as_many_as_are_worth_it(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    chunks: int,
    free: float,
    started: int,
) -> None:
    tended = []
    monkeypatch.setattr(crew, "all_cores", lambda: cores)
    monkeypatch.setattr(crew, "available_memory", lambda: free)
    monkeypatch.setattr(crew, "_tend", lambda *asked: tended.append(asked))
    pipeline = SpeakerDiarizationPipeline(bundle, "cpu")
    for part in (chunks // 2, chunks - chunks // 2):  # of one recording or of two
        pipeline._crew.grow(part)
    until(lambda: len(tended) == started, f"{started} are started")
