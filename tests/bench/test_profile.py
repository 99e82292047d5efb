"""Where time goes: parts have names, and the one at work is told from the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.bench import anatomy
from samevoice.bench.counting import Count
from samevoice.bench.profile import Profile, Tally, parts_of
from samevoice.models import registry
from samevoice.models.fast import cpu


def test_layers_and_the_parts_of_their_fast_forms_have_names(narrow_bundle: Path) -> None:
    network: Any = registry.load(narrow_bundle / "segmentation", "cpu")
    assert not any("/" in name for name in parts_of(network).values())
    mx.eval(network(mx.zeros((1, 16_000))))
    names = parts_of(network)
    form = network._on_cpu()
    assert names[id(form)] == "/"
    assert names[id(form.lstm[2].wh)] == "/lstm.2.wh"
    assert names[id(network.lstm[2].forward)] == "lstm.2.forward"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_part_at_work_is_seen(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the thread that is watched works itself, or waits for others that do."""
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr("samevoice.bench.profile.EVERY", 0.0005)
    wx, wh = (np.zeros((12, n), np.float32) for n in (2, 3))
    gates, other = (cpu.Gates.of([(wx, wh, wx[:, 0])]) for _ in range(2))
    profile = Profile({id(gates): "this", id(other): "other"})
    with profile.watching():
        for _ in range(1000):
            cpu.recur([np.zeros((200, 4, 2), np.float32)], gates)
            if profile.seconds.get("this"):
                break
    assert set(profile.seconds) <= {"this", ""}
    assert profile.seconds["this"] > 0


def test_parts_and_layers_meet_in_one_row(narrow_bundle: Path) -> None:
    """Every layer of the networks with a table has a row, and so has every part of their forms."""
    for name in ("segmentation", "embedding"):
        network: Any = registry.load(narrow_bundle / name, "cpu")
        groups = anatomy.groups_of(network)
        plain = {
            anatomy.label_of(path, groups)
            for path, one in network.named_modules()
            if any(x.ndim > 1 for x in one.values() if isinstance(x, mx.array))
            if "seg_" not in path
        }
        assert anatomy.REST not in plain
        run = network if name == "segmentation" else network.frames
        mx.eval(run(mx.zeros((1, 16_000))))
        parts = (x for x in parts_of(network).values() if "/" in x and not x.endswith("/"))
        forms = {anatomy.label_of(one, groups) for one in parts}
        assert plain <= forms
        assert anatomy.REST not in forms


def test_a_network_without_a_table_has_one_row_for_its_layers() -> None:
    work = {anatomy.REST: Count(7.0, 8.0)}
    assert anatomy.label_of("encoder.3.attention.query", ()) == anatomy.REST
    seconds = Tally()
    seconds[anatomy.POOLING] = 1.0
    assert anatomy._shares(work, seconds, 4.0) == [
        (anatomy.POOLING, 0.25, 0.0, 0.0),
        (anatomy.REST, 0.75, 7.0, 8.0),
    ]


def test_work_that_was_never_seen_goes_to_the_rest() -> None:
    work = {"tdnn": Count(2.0, 1.0), "lstm": Count(5.0, 3.0)}
    seconds = Tally()
    seconds["lstm"] = 3.0
    assert anatomy._shares(work, seconds, 4.0) == [
        ("lstm", 0.75, 5.0, 3.0),
        (anatomy.REST, 0.25, 2.0, 1.0),
    ]
