"""The harness must find every known bug, where it sits; and the gallery must be able to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samevoice.parity import gallery
from samevoice.parity.limits import Override, limits_for
from samevoice.parity.run import ParityError


@pytest.mark.parametrize("kind", ["segmentation", "embedding"])
def test_every_bug_is_found_where_it_sits(kind: str, references: dict[str, Path]) -> None:
    found = gallery.examine(references[kind])
    wrong = [(one.bug.name, one.where, one.found) for one in found if not one.right]
    assert wrong == []
    assert sum(bool(one.where) for one in found) >= 15


def test_every_bug_is_found_in_trained_weights(golden: Path, pyannote: Any) -> None:
    del pyannote
    found = gallery.examine(golden / "checkpoints" / "segmentation-3.0-dequantised")
    assert [(one.bug.name, one.where, one.found) for one in found if not one.right] == []


def test_a_gate_that_lets_everything_pass_is_found_out(
    references: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(*given: str) -> Any:
        return limits_for(*given).overridden([Override("noise_ratio", 1e9)])

    monkeypatch.setattr(gallery, "limits_for", blind)
    some = ("LSTM gates permuted", "ReLU for leaky ReLU in SincNet")
    monkeypatch.setattr(gallery, "BUGS", [b for b in gallery.BUGS if b.name in some])
    found = gallery.examine(references["segmentation"])
    assert not any(one.right for one in found if one.bug.name in some)


def test_a_wrong_port_is_no_ground_to_spoil(
    references: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = next(bug for bug in gallery.SEGMENTATION if bug.name == "a bias dropped")
    monkeypatch.setattr(gallery, "RIGHT", bug)
    with pytest.raises(ParityError, match=r"fails at 'lstm\.1\.forward' before any bug"):
        gallery.examine(references["segmentation"])


def test_each_bug_leaves_the_port_as_it_was(references: dict[str, Path], tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    import samevoice

    for kind in ("segmentation", "embedding"):
        samevoice.convert(references[kind], tmp_path / kind)
        model: Any = samevoice.load(tmp_path / kind)
        wave = mx.random.normal((2, 16000), key=mx.random.key(0)) * 0.1
        before = model(wave)
        weights: Any = tree_flatten(model.parameters())
        for bug in (bug for bug in gallery.BUGS if bug.family == kind):
            with bug.inject(model):
                pass
            after: Any = tree_flatten(model.parameters())
            assert [name for name, _ in after] == [name for name, _ in weights], bug.name
            assert mx.array_equal(model(wave), before), bug.name
