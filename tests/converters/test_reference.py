"""The offline reference checkpoints: real architectures, the same bytes every time."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samevoice import family as families
from samevoice import files
from samevoice.converters import reference
from samevoice.errors import SourceError
from samevoice.family import Broken, Family

torch = pytest.importorskip("torch", reason="pip install 'samevoice[parity]'")


@pytest.mark.long
@pytest.mark.parametrize("threads", ["1", "2"])
def test_another_process_makes_the_same_bytes(
    threads: str, references: dict[str, Path], tmp_path: Path
) -> None:
    script = "from samevoice.converters.reference import build; print(build('full'))"
    env = {**os.environ, "SAMEVOICE_CACHE": str(tmp_path), "OMP_NUM_THREADS": threads}
    made = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    folder = Path(made.stdout.strip().splitlines()[-1])
    assert folder.is_relative_to(tmp_path)
    assert hashes(folder) == hashes(references["full"])


def test_a_familys_reference_is_made_anew_once_its_writer_is_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = tmp_path / "edited_paw.py"
    family = Family(
        "embedding", ("Paw",), (), lambda *_: {}, lambda _: (), reference="edited_paw:write"
    )
    broken = Broken("snout", "dog-models", "no snout today")
    monkeypatch.setattr(families, "find", lambda: families.Found((family,), (broken,)))
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for word in ("one", "another"):
        writer.write_text(f"def write(folder, small):\n    (folder / '{word}').touch()\n")
        sys.modules.pop("edited_paw", None)
        importlib.invalidate_caches()
        found += [next(reference.build("Paw/small").iterdir()).name for _ in range(2)]
    assert found == ["one", "one", "another", "another"]
    with pytest.raises(
        SourceError, match=r"those architectures; .*dog-models cannot be loaded: no snout"
    ):
        reference.build("Snout")


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_single_checkpoints_are_those_of_the_pipeline(references: dict[str, Path]) -> None:
    for part in ("segmentation", "embedding"):
        alone = references[part] / "pytorch_model.bin"
        assert alone.read_bytes() == (references["full"] / part / "pytorch_model.bin").read_bytes()


def test_the_architectures_are_the_real_ones(references: dict[str, Path], pyannote: Any) -> None:
    segmentation = pyannote.Model.from_pretrained(references["segmentation"])
    assert sum(value.numel() for value in segmentation.state_dict().values()) == 1_473_515
    assert segmentation.specifications.num_powerset_classes == 7
    embedding = pyannote.Model.from_pretrained(references["embedding"])
    assert len(embedding.state_dict()) == 218
    assert pyannote.Pipeline.from_pretrained(references["full"]) is not None


def test_batch_norm_has_heard_the_sample(references: dict[str, Path]) -> None:
    state = torch.load(references["embedding"] / "pytorch_model.bin", weights_only=False)[
        "state_dict"
    ]
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert all(bool((mean != 0).all()) for mean in means)
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    assert all(bool((variance != 1).all()) for variance in variances)
    counters = [int(value) for name, value in state.items() if name.endswith("num_batches_tracked")]
    assert counters == [1] * 36


def test_no_tensor_is_left_at_a_default(references: dict[str, Path], pyannote: Any) -> None:
    """A port that never loads a scale of 1 or a shift of 0 would otherwise pass."""
    for part in ("segmentation", "embedding"):
        model = pyannote.Model.from_pretrained(references[part])
        fresh = type(model)().state_dict()
        for name, value in model.named_parameters():
            assert value.numel() == 1 or float(value.detach().std()) > 0, name
            if name in fresh and value.shape == fresh[name].shape:
                assert not torch.equal(value, fresh[name]), name


def test_the_sample_is_thirty_seconds_of_speech(pyannote: Any) -> None:
    del pyannote
    wave = reference.sample()
    assert wave.shape == (480_000,)
    assert 0.01 < float(np.abs(wave).max()) <= 1


def test_the_plda_is_one_that_pyannote_can_use(references: dict[str, Path], pyannote: Any) -> None:
    del pyannote
    from pyannote.audio.core.plda import PLDA

    plda = PLDA.from_pretrained(references["full"] / "plda")
    assert plda is not None
    assert (plda.phi > 0).all()
    projected = plda(np.random.default_rng(0).standard_normal((3, 256)))
    assert np.isfinite(projected).all()


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path))
    assert files.cache_folder() == tmp_path
    monkeypatch.delenv("SAMEVOICE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert files.cache_folder() == Path("/xdg/samevoice")


def test_who_comes_second_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pyannote: Any
) -> None:
    made: list[Path] = []

    def slowly(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.3)

    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path))
    monkeypatch.setitem(reference._BUILDERS, "segmentation", slowly)
    with ThreadPoolExecutor() as both:
        found = set(both.map(reference.build, ["segmentation"] * 3))
    assert len(made) == len(found) == 1


def test_every_class_wins_somewhere(references: dict[str, Path], pyannote: Any) -> None:
    model = pyannote.Model.from_pretrained(references["segmentation"]).eval()
    with torch.inference_mode():
        scores = model(torch.from_numpy(reference.sample())[None, None])[0]
    counts = torch.bincount(scores.argmax(dim=-1), minlength=7)
    assert (counts > 20).sum() >= 5, counts
