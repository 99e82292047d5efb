"""What torch said once is enough: a bundle is checked where torch cannot even be imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import made_up
import mlx.core as mx
import numpy as np
import pytest

from samevoice.converters import convert
from samevoice.parity import golden
from samevoice.parity.dumps import open_dump, write_dump
from samevoice.parity.golden import GoldenError
from samevoice.parity.inputs import Example, batch, noise
from samevoice.parity.replay import replay

SOUNDS = (
    Example("deep", batch([noise(4000), noise(4000, seed=1)]), depth="full", labels=("",)),
    Example("short", batch([noise(1261, seed=2)]), labels=("",)),
)

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchaudio", "pyannote", "lightning"):
    sys.modules[name] = None  # as if it were not installed
from samevoice.parity.replay import replay
verdict = replay(*sys.argv[1:])
assert not any(name.startswith("torch.") for name in sys.modules)
print(verdict.passed, len(verdict.taps), verdict.first_divergence)
"""


@pytest.fixture(scope="module")
def made(pyannote: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle and its golden data."""
    del pyannote
    folder = tmp_path_factory.mktemp("golden")
    source = made_up.save(made_up.pyannet(layers=1), folder / "x.ckpt")
    convert.convert(source, folder / "bundle")
    golden.make(folder / "golden", source, SOUNDS)
    return folder / "bundle", folder / "golden"


def replayed(*paths: Path) -> str:
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_machine_without_torch_finds_a_right_bundle_right(made: tuple[Path, Path]) -> None:
    here = replay(*made)
    assert here.passed, here.reasons
    assert {tap.mode for tap in here.taps} == {"free", "forced"}
    assert replayed(*made) == f"True {len(here.taps)} None"


def test_and_a_wrong_one_wrong(made: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(made[0], bundle)
    arrays: Any = dict(mx.load(str(bundle / "model.safetensors")))  # type: ignore[arg-type]
    arrays["linear.1.bias"] = arrays["linear.1.bias"] + 1e-3
    mx.save_safetensors(str(bundle / "model.safetensors"), arrays, {"format": "mlx"})
    made_up.record(bundle)
    assert replayed(bundle, made[1]).startswith("False")
    assert replayed(bundle, made[1]).endswith("linear.1")


def test_the_block_on_torch_is_a_block() -> None:
    script = WITHOUT_TORCH.partition("from samevoice")[0] + "\nimport torch"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 1


def test_what_is_replayed_is_what_was_saved(made: tuple[Path, Path]) -> None:
    traces = list(golden.traces(golden.read(made[1])))
    assert [one.example.sha256 for one in traces] == [one.sha256 for one in SOUNDS]
    assert [one.example.depth for one in traces] == ["full", "output"]
    assert traces[0].truth.outputs["output"].dtype == np.float64
    assert traces[0].floors


def test_other_sources_and_models_are_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    other = made_up.save(made_up.pyannet(layers=1, seed=5), tmp_path / "x.ckpt")
    convert.convert(other, tmp_path / "bundle")
    with pytest.raises(GoldenError, match="was made from another source"):
        replay(tmp_path / "bundle", made[1])
    with pytest.raises(GoldenError, match="is a whole pipeline"):
        golden.make(tmp_path / "new", "reference:full", SOUNDS)


def test_damaged_golden_data_are_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "golden"
    shutil.copytree(made[1], copy)
    index = json.loads((copy / "golden.json").read_text())
    index["examples"][1]["sha256"] = "0" * 64
    (copy / "golden.json").write_text(json.dumps(index))
    with pytest.raises(GoldenError, match="the inputs of 'short' are not those saved"):
        replay(made[0], copy)
    (copy / "golden.json").write_text("{")
    with pytest.raises(GoldenError, match="is not JSON"):
        golden.read(copy)
    with pytest.raises(GoldenError, match="cannot read"):
        golden.read(tmp_path)


def test_golden_data_that_lack_what_was_fed(made: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made[1], copy)
    path = copy / "000.safetensors"
    arrays = {name: array for name, array in open_dump(path).items() if name != "fed/waveforms"}
    write_dump(path, arrays)
    with pytest.raises(GoldenError, match=r"000\.safetensors lacks 'fed/waveforms'"):
        replay(made[0], copy)


def test_a_comparison_leaves_its_outputs_behind(
    made: tuple[Path, Path], pyannote: Any, tmp_path: Path
) -> None:
    """Beside the result, for a release: the same inputs, and no layer of them."""
    from samevoice.parity import run

    del pyannote
    source = made[0].parent / "x.ckpt"
    for _ in range(2):  # the second takes the place of the first
        found = run.run(made[0], source, inputs=SOUNDS, output=tmp_path, device="cpu")
    said = golden.read(tmp_path / "golden")
    assert said.source_sha256 == found.source.sha256
    rows = {row["name"]: row["sha256"] for row in said.examples}
    assert rows == {one.name: one.sha256 for one in found.inputs}
    traces = list(golden.traces(said))
    assert all(one.truth.outputs.keys() == {"output"} for one in traces)
    assert all(one.floors for one in traces)
    verdict = replay(made[0], tmp_path / "golden")
    assert verdict.passed, verdict.reasons
    assert [(tap.name, tap.input) for tap in verdict.taps] == [
        ("output", "deep"),
        ("output", "short"),
    ]
    assert not list(tmp_path.glob(".*"))


def test_a_comparison_that_is_stopped_leaves_nothing_behind(
    made: tuple[Path, Path], pyannote: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the port runs, and the golden data wait for it."""
    from samevoice.parity import run
    from samevoice.parity.candidate import Candidate

    del pyannote

    def stopped(*_: Any) -> None:
        assert (tmp_path / ".golden.lock").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Candidate, "try_run", stopped)
    # The traceback that is kept keeps all that was going on alive.
    with pytest.raises(KeyboardInterrupt) as kept:
        run.run(made[0], made[0].parent / "x.ckpt", inputs=SOUNDS, output=tmp_path, device="cpu")
    assert kept.tb is not None
    assert not list(tmp_path.iterdir())


def test_other_files_are_no_golden_data_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "thesis.tex").write_text("mine")
    with (
        pytest.raises(GoldenError, match="holds other files than golden data"),
        golden.written_anew(tmp_path / "golden"),
    ):
        pass
    assert (tmp_path / "golden" / "thesis.tex").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["golden"]


def test_an_index_cannot_lead_out_of_its_folder(made: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made[1], tmp_path / "golden")
    path = tmp_path / "golden" / "golden.json"
    index = json.loads(path.read_text())
    index["examples"][0]["file"] = str(made[1] / "000.safetensors")
    path.write_text(json.dumps(index))
    with pytest.raises(GoldenError, match="lies outside of it"):
        replay(made[0], tmp_path / "golden")


def test_somebodys_recording_is_compared_and_not_kept(
    made: tuple[Path, Path], pyannote: Any, tmp_path: Path
) -> None:
    """Golden data are published with a release."""
    import soundfile

    from samevoice.parity import run

    del pyannote
    soundfile.write(tmp_path / "private.wav", noise(5000, seed=7), 16_000)
    source, given = made[0].parent / "x.ckpt", [tmp_path / "private.wav"]
    found = run.run(
        made[0], source, inputs=SOUNDS, audio=given, output=tmp_path / "out", device="cpu"
    )
    assert len(found.inputs) == len(SOUNDS) + 1
    said = golden.read(tmp_path / "out" / "golden")
    assert [row["name"] for row in said.examples] == [one.name for one in SOUNDS]
    assert len(list((tmp_path / "out" / "golden").iterdir())) == len(SOUNDS) + 1
