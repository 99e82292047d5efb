"""The way back: the same bits, names and order, in a file that pyannote loads."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import samevoice
from samevoice.converters.reading.checkpoint import REFERENCE_NOTE
from samevoice.errors import BundleError, CheckpointError, ConversionError, SamevoiceError
from samevoice.outputs import OutputError

torch = pytest.importorskip("torch", reason="pip install 'samevoice[parity]'")

VARIANTS: dict[str, dict[str, Any]] = {
    "as released": {"layers": 4},
    "one by one": {"monolithic": False, "layers": 3},
    "forward only": {"bidirectional": False},
    "one layer": {"layers": 1, "monolithic": False},
    "no linear": {"linear": 0},
    "three linear": {"linear": 3, "hidden": 5},
    "multilabel": {"powerset": None, "classes": 4},
    "powerset of four": {"classes": 4, "powerset": 3},
}


def same_bits(path: Path, other: Path) -> None:
    """Both files hold the same keys in the same order, the same tensors, and the rest alike."""
    first, second = (torch.load(p, weights_only=False) for p in (path, other))
    assert list(first) == list(second)
    a, b = first.pop("state_dict"), second.pop("state_dict")
    assert list(a) == list(b)
    for name, value in a.items():
        assert value.dtype == b[name].dtype, name
        assert value.numpy().tobytes() == b[name].numpy().tobytes(), name
    assert first == second


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pyannet_there_and_back(variant: str, tmp_path: Path, pyannote: Any) -> None:
    source = made_up.save(made_up.pyannet(**VARIANTS[variant]), tmp_path / "a.bin")
    made = samevoice.convert(source, tmp_path / "mlx")
    assert not made.parts[0].notes
    samevoice.load(tmp_path / "mlx")
    back = samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.bin")
    assert back.exact
    same_bits(source, tmp_path / "b.bin")
    loaded = pyannote.Model.from_pretrained(tmp_path / "b.bin").eval()
    original = pyannote.Model.from_pretrained(source).eval()
    wave = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 1, 16000))).float()
    assert torch.equal(loaded(wave), original(wave))


@pytest.mark.parametrize("depth", [34, 152, 221, 293])
def test_every_resnet_there_and_back(depth: int, tmp_path: Path, pyannote: Any) -> None:
    source = made_up.save(made_up.resnet(depth), tmp_path / "a.bin")
    made = samevoice.convert(source, tmp_path / "mlx")
    assert made.parts[0].config["architecture"] == f"WeSpeakerResNet{depth}"
    back = samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.bin")
    assert back.exact
    same_bits(source, tmp_path / "b.bin")
    pyannote.Model.from_pretrained(tmp_path / "b.bin")


def test_the_whole_pipeline_there_and_back(
    references: dict[str, Path], tmp_path: Path, pyannote: Any
) -> None:
    samevoice.convert(references["full"], tmp_path / "mlx")
    back = samevoice.to_torch(tmp_path / "mlx", tmp_path / "back")
    assert back.exact
    for part in ("segmentation", "embedding"):
        same_bits(*(at / part / "pytorch_model.bin" for at in (references["full"], back.path)))
    for name in ("plda.npz", "xvec_transform.npz"):
        assert (references["full"] / "plda" / name).read_bytes() == (
            back.path / "plda" / name
        ).read_bytes()
    assert (references["full"] / "config.yaml").read_text() == (
        back.path / "config.yaml"
    ).read_text()
    assert pyannote.Pipeline.from_pretrained(back.path) is not None


def test_golden_pipeline_there_and_back(golden: Path, tmp_path: Path, pyannote: Any) -> None:
    source = golden / "checkpoints" / "community-1-fitted"
    samevoice.convert(source, tmp_path / "mlx")
    back = samevoice.to_torch(tmp_path / "mlx", tmp_path / "back")
    assert back.exact
    for part in ("segmentation", "embedding"):
        same_bits(*(at / part / "pytorch_model.bin" for at in (source, back.path)))
    for name in ("plda.npz", "xvec_transform.npz"):
        theirs, ours = (np.load(at / "plda" / name) for at in (source, back.path))
        for key in theirs.files:
            assert theirs[key].tobytes(order="A") == ours[key].tobytes(order="A")
            assert theirs[key].flags.f_contiguous == ours[key].flags.f_contiguous
    assert pyannote.Pipeline.from_pretrained(back.path) is not None


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_bare_state_dict_keeps_its_names(prefix: str, tmp_path: Path) -> None:
    arrays = {prefix + name: array for name, array in made_up.pyannet_arrays().items()}
    save_file(arrays, tmp_path / "a.safetensors")
    samevoice.convert(tmp_path / "a.safetensors", tmp_path / "mlx")
    samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.safetensors")
    samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.pt")
    got = load_file(tmp_path / "b.safetensors")
    assert {name: a.tobytes() for name, a in got.items()} == {
        name: a.tobytes() for name, a in arrays.items()
    }
    assert set(torch.load(tmp_path / "b.pt", weights_only=True)) == set(arrays)


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"q_bits": 8}])
def test_a_rounded_bundle_says_that_it_is_rounded(
    options: dict[str, Any], tmp_path: Path, pyannote: Any
) -> None:
    source = made_up.save(made_up.pyannet(hidden=32), tmp_path / "a.bin")
    samevoice.convert(source, tmp_path / "mlx", q_group_size=32, **options)
    back = samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.bin")
    assert not back.exact
    theirs, ours = (torch.load(p, weights_only=False)["state_dict"] for p in (source, back.path))
    name = "linear.0.weight"
    assert ours[name].dtype == torch.float32
    assert 0 < float((ours[name] - theirs[name]).abs().max()) < 0.01
    pyannote.Model.from_pretrained(back.path)


def test_a_half_precision_source_comes_back_exactly(tmp_path: Path) -> None:
    arrays = {name: a.astype(np.float16) for name, a in made_up.pyannet_arrays().items()}
    save_file(arrays, tmp_path / "a.safetensors")
    samevoice.convert(tmp_path / "a.safetensors", tmp_path / "mlx")
    assert samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.safetensors").exact
    got = load_file(tmp_path / "b.safetensors")
    assert all(got[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_reference_weights_keep_their_mark(references: dict[str, Path], tmp_path: Path) -> None:
    samevoice.convert(references["segmentation"], tmp_path / "mlx")
    for name in ("b.safetensors", "b.bin"):
        samevoice.to_torch(tmp_path / "mlx", tmp_path / name)
        again = samevoice.convert(tmp_path / name, tmp_path / f"{name}.mlx")
        assert again.note == REFERENCE_NOTE


def rewrite(bundle: Path, name: str, change: Callable[[str], str]) -> None:
    """Edit a file of a bundle, and the hash that would give it away."""
    path = bundle / name
    path.write_text(change(path.read_text()))
    provenance = json.loads((bundle / "provenance.json").read_text())
    provenance["outputs"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / "provenance.json").write_text(json.dumps(provenance))


class TestHostile:
    """A bundle comes from anywhere; what it becomes is loaded by pyannote, which builds classes."""

    def test_a_pipeline_that_would_build_another_class(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        samevoice.convert(references["full"], tmp_path / "full")
        evil = "pipeline: {name: subprocess.Popen, params: {args: [touch, trap]}}"
        rewrite(tmp_path / "full", "origin/config.yaml", lambda text: evil)
        with pytest.raises(ConversionError, match=r"'subprocess\.Popen' is not supported"):
            samevoice.to_torch(tmp_path / "full", tmp_path / "back")
        assert not (tmp_path / "back").exists()

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("pyannote.audio.core.task.Problem", "os.system", "'os.system' is no class"),
            (
                "pyannote.audio.models.segmentation.PyanNet",
                "antigravity",
                "'antigravity' is no module",
            ),
        ],
    )
    def test_a_checkpoint_that_would_import_something(
        self, old: str, new: str, said: str, references: dict[str, Path], tmp_path: Path
    ) -> None:
        samevoice.convert(references["segmentation"], tmp_path / "mlx")
        rewrite(tmp_path / "mlx", "origin/checkpoint.json", lambda text: text.replace(old, new))
        with pytest.raises(CheckpointError, match=said):
            samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.bin")
        assert not (tmp_path / "b.bin").exists()

    @pytest.mark.parametrize("name", ["config.json", "origin/checkpoint.json", "provenance.json"])
    @pytest.mark.parametrize("content", ["[1]", "{}", '{"model_type": "segmentation"}', "nonsense"])
    def test_edited_files_are_the_bundles_fault(
        self, name: str, content: str, tmp_path: Path
    ) -> None:
        save_file(made_up.pyannet_arrays(), tmp_path / "a.safetensors")
        samevoice.convert(tmp_path / "a.safetensors", tmp_path / "mlx")
        if name == "provenance.json":
            (tmp_path / "mlx" / name).write_text(content)
        else:
            rewrite(tmp_path / "mlx", name, lambda text: content)
        with pytest.raises(SamevoiceError):
            samevoice.to_torch(tmp_path / "mlx", tmp_path / "b.bin")
        assert not (tmp_path / "b.bin").exists()


class TestRefusals:
    @pytest.fixture
    def mlx(self, tmp_path: Path) -> Path:
        save_file(made_up.pyannet_arrays(), tmp_path / "a.safetensors")
        samevoice.convert(tmp_path / "a.safetensors", tmp_path / "mlx")
        return tmp_path / "mlx"

    def test_what_is_no_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"has no config\.json: it is no samevoice bundle"):
            samevoice.to_torch(tmp_path, tmp_path / "b.bin")

    def test_an_existing_file_stays(self, mlx: Path, tmp_path: Path) -> None:
        (tmp_path / "b.bin").write_text("mine")
        with pytest.raises(BundleError, match="exists: pass --overwrite"):
            samevoice.to_torch(mlx, tmp_path / "b.bin")
        assert (tmp_path / "b.bin").read_text() == "mine"
        samevoice.to_torch(mlx, tmp_path / "b.bin", overwrite=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.bin", "mlx"]

    def test_a_folder_that_holds_more_stays(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        samevoice.convert(references["full"], tmp_path / "full")
        project = tmp_path / "project"
        project.mkdir()
        (project / "config.yaml").write_text("mine: true")
        (project / "thesis.txt").write_text("mine")
        with pytest.raises(BundleError, match="holds files that samevoice did not write"):
            samevoice.to_torch(tmp_path / "full", project, overwrite=True)
        assert (project / "thesis.txt").exists()

    def test_what_a_killed_run_left_is_cleared(self, mlx: Path, tmp_path: Path) -> None:
        left = tmp_path / ".b.bin.partial"
        left.mkdir()
        (left / "b.bin").write_text("half")
        samevoice.to_torch(mlx, tmp_path / "b.bin")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.bin", "mlx"]

    def test_changed_weights_are_not_called_the_source(self, mlx: Path, tmp_path: Path) -> None:
        weights = load_file(mlx / "model.safetensors")
        save_file(
            {**weights, "classifier.bias": weights["classifier.bias"] * 2},
            mlx / "model.safetensors",
        )
        with pytest.raises(BundleError, match=r"not as they were written, first 'model\.safe"):
            samevoice.to_torch(mlx, tmp_path / "b.bin")

    def test_a_full_disk_is_one_sentence(self, mlx: Path, tmp_path: Path) -> None:
        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

        out = str(tmp_path / "b.bin")
        command = [
            sys.executable,
            "-m",
            "samevoice",
            "export",
            str(mlx),
            "--output",
            out,
        ]
        done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
        assert done.returncode == 2
        assert "cannot be written" in done.stderr
        assert "File too large; nothing was changed" in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "mlx"]

    def test_a_name_that_says_nothing(self, mlx: Path, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"must end in \.bin, \.pt"):
            samevoice.to_torch(mlx, tmp_path / "b")

    def test_a_bundle_without_what_the_way_back_needs(self, mlx: Path, tmp_path: Path) -> None:
        shutil.rmtree(mlx / "origin")
        with pytest.raises(
            BundleError, match=r"not as they were written, first 'origin/checkpoint"
        ):
            samevoice.to_torch(mlx, tmp_path / "b.bin")

    def test_a_bundle_without_its_kept_tensors(self, mlx: Path, tmp_path: Path) -> None:
        (mlx / "origin" / "kept.safetensors").unlink()
        with pytest.raises(BundleError, match=r"not as they were written, first 'origin/kept"):
            samevoice.to_torch(mlx, tmp_path / "b.bin")

    def test_a_pipeline_does_not_fit_into_a_file(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        samevoice.convert(references["full"], tmp_path / "full")
        with pytest.raises(BundleError, match="becomes a folder"):
            samevoice.to_torch(tmp_path / "full", tmp_path / "b.bin")

    def test_a_place_where_nothing_can_be_written(self, mlx: Path) -> None:
        with pytest.raises(OutputError, match=f"{made_up.SEALED} cannot be written to"):
            samevoice.to_torch(mlx, made_up.SEALED / "b.bin")
