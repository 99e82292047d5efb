"""The fused steps against what numpy says, to the bit; plain, compiled, and without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samevoice.models import backend
from samevoice.models.diarization import compiled, powerset
from samevoice.models.diarization.compiled import Compiled

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = ("likeliest", "clean_or_full")
CASES = settings(max_examples=40, deadline=None)


@pytest.fixture(params=["plain", "compiled"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two forms, whatever this machine's device would choose."""
    for name in STEPS:
        step: Compiled[..., Any] = getattr(compiled, name)
        chosen = step.compiled if request.param == "compiled" else step.plain
        monkeypatch.setattr(compiled, name, chosen)
    return str(request.param)


# --- what numpy says ----------------------------------------------------------------------------


def host_weights(masks: Array, least: int) -> Array:
    """(B, F, S) -> (B, S, F), speaker by speaker."""
    chosen = np.empty((masks.shape[0], masks.shape[2], masks.shape[1]), dtype=np.float32)
    for b, chunk in enumerate(masks):
        alone = chunk.sum(axis=1) < 2
        for s, mask in enumerate(chunk.T):
            clean = mask * alone
            chosen[b, s] = clean if clean.sum() > least else mask
    return chosen


# --- scores to masks ----------------------------------------------------------------------------


def test_sets_by_hand(form: str) -> None:
    best = [0, 1, 4, 6, 3]
    scores = np.full((1, 5, 7), -9.0, dtype=np.float32)
    scores[0, range(5), best] = -0.1
    masks = compiled.powerset_masks(mx.array(scores), mx.array(powerset.mapping(3, 2)))
    assert masks.dtype == mx.float32
    assert np.array(masks)[0].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_of_equal_scores_the_first_wins(form: str) -> None:
    scores = np.array([[[-1, -1, -1, -1], [-2, -1, -1, -1], [-np.inf, -np.inf, -2, -2]]])
    mapping = powerset.mapping(2, 2)  # nobody, 0, 1, both
    masks = compiled.powerset_masks(mx.array(scores.astype(np.float32)), mx.array(mapping))
    assert np.array(masks)[0].tolist() == [[0, 0], [1, 0], [0, 1]]


@CASES
@given(st.data())
def test_masks_as_numpy_makes_them(data: st.DataObject) -> None:
    speakers = data.draw(st.integers(1, 5))
    mapping = powerset.mapping(speakers, data.draw(st.integers(0, speakers)))
    # Few values, so that many are equal.
    shape = (data.draw(st.integers(0, 3)), data.draw(st.integers(0, 20)), len(mapping))
    scores = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([-3, -1, 0])))
    wanted = powerset.decode(scores, mapping) if scores.size else np.zeros((*shape[:2], speakers))
    for step in (compiled.likeliest.compiled, compiled.likeliest.plain) if scores.size else ():
        np.testing.assert_array_equal(step(mx.array(scores), mx.array(mapping)), wanted)
    got = np.array(compiled.powerset_masks(mx.array(scores), mx.array(mapping)))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("speakers", "largest"), [(3, 2), (2, 1), (4, 3), (1, 1)])
def test_masks_as_pyannote_makes_them(pyannote: Any, speakers: int, largest: int) -> None:
    from pyannote.audio.utils.powerset import Powerset

    theirs = Powerset(speakers, largest)
    rng = np.random.default_rng(speakers)
    scores = np.log(rng.dirichlet(np.ones(theirs.num_powerset_classes), (4, 589))).astype("f")
    wanted = theirs.to_multilabel(pyannote.torch.from_numpy(scores)).numpy()
    mapping = mx.array(powerset.mapping(speakers, largest))
    got = np.array(compiled.powerset_masks(mx.array(scores), mapping))
    np.testing.assert_array_equal(got, wanted)


def test_scores_of_another_powerset_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 5, 6\) do not fit a mapping of \(7, 3\)"):
        compiled.powerset_masks(mx.zeros((1, 5, 6)), mx.array(powerset.mapping(3, 2)))


# --- masks to weights ---------------------------------------------------------------------------


def test_overlap_is_left_out_where_enough_remains(form: str) -> None:
    # Speaker 0 is alone in frames 0 to 2, speaker 1 in 5 and 6, which is not more than 2.
    masks = np.zeros((1, 8, 3), dtype=np.float32)
    masks[0, 0:5, 0] = 1
    masks[0, 3:7, 1] = 1
    got = np.array(compiled.embedding_weights(mx.array(masks), 2))
    assert got.shape == (1, 3, 8)
    assert got[0].astype(int).tolist() == [
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert np.array(compiled.embedding_weights(mx.array(masks), 1))[0, 1].sum() == 2


@CASES
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=12),
        elements=st.integers(0, 1),
    ),
    st.integers(0, 4),
)
def test_weights_as_numpy_makes_them(masks: Array, least: int) -> None:
    wanted = host_weights(masks.astype(np.float32), least)
    got = compiled.embedding_weights(mx.array(masks), least)
    assert got.dtype == mx.float32
    np.testing.assert_array_equal(np.array(got), wanted)


@pytest.mark.parametrize("shape", [(8, 589, 3), (1, 589, 3), (2, 1, 3), (1, 1, 1), (3, 7, 1)])
def test_weights_of_many_shapes(form: str, shape: tuple[int, int, int]) -> None:
    masks = (np.random.default_rng(0).random(shape) > 0.4).astype(np.float32)
    got = np.array(compiled.embedding_weights(mx.array(masks), 2))
    np.testing.assert_array_equal(got, host_weights(masks, 2))


def test_one_pass_serves_every_speaker() -> None:
    """The weights go to the network as they are: one recording in, an embedding a speaker out."""
    from samevoice.models.layers.pooling import stats_pool

    frames = mx.random.normal((2, 10, 13, 4))
    masks = mx.array(np.random.default_rng(1).integers(0, 2, (2, 13, 3)).astype(np.float32))
    together = stats_pool(frames, compiled.embedding_weights(masks, 2))
    assert together.shape == (2, 3, 80)


# --- where it runs ------------------------------------------------------------------------------


@pytest.mark.parametrize(("cpu", "wanted"), [(True, "plain"), (False, "compiled")])
def test_a_gpu_runs_the_compiled_form(
    monkeypatch: pytest.MonkeyPatch, cpu: bool, wanted: str
) -> None:
    step: Compiled[[], str] = Compiled.__new__(Compiled)
    step.plain, step.compiled = lambda: "plain", lambda: "compiled"
    monkeypatch.setattr(backend, "on_cpu", lambda: cpu)
    assert step() == wanted


WITHOUT_COMPILER = """
import shutil
import samevoice.models
import mlx.core as mx, numpy as np
from samevoice.models.diarization import compiled
assert shutil.which("g++") is None
masks = np.random.default_rng(0).integers(0, 2, (3, 17, 3)).astype(np.float32)
step, inputs = compiled.clean_or_full, (mx.array(masks), mx.array(2.0))
assert np.array_equal(np.array(step.compiled(*inputs)), np.array(step.plain(*inputs)))
print("same")
"""


def test_the_compiled_form_works_without_a_compiler(tmp_path: Any) -> None:
    # Of its own temporary folder, too: a kernel that was built before would be found there.
    elsewhere = {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER],
        env=os.environ | elsewhere,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
