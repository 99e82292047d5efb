"""Whole conversions: what lands in the bundle, what comes back, and what must never happen."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import made_up
import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import samevoice
from samevoice.converters import bundle
from samevoice.converters.convert import Options
from samevoice.converters.reading import safetensors_file
from samevoice.converters.reading.checkpoint import REFERENCE_NOTE
from samevoice.errors import BundleError, ConversionError, SamevoiceError, SourceError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small PyanNet that needs no torch to be read."""
    path = tmp_path / "small.safetensors"
    save_file(made_up.pyannet_arrays(hidden=32, layers=2), path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def mlx_load(path: Path) -> dict[str, mx.array]:
    """Through MLX's own reader, as the users of a bundle load it."""
    loaded = mx.load(str(path))
    assert isinstance(loaded, dict)
    return loaded


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestBundle:
    def test_has_the_files_that_mlx_tools_look_for(self, checkpoint: Path, tmp_path: Path) -> None:
        samevoice.convert(checkpoint, tmp_path / "out")
        assert set(contents(tmp_path / "out")) == {
            "README.md",
            "config.json",
            "model.safetensors",
            "model.safetensors.index.json",
            "origin/checkpoint.json",
            "origin/kept.safetensors",
            "provenance.json",
        }
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        assert (config["model_type"], config["architecture"]) == ("segmentation", "PyanNet")
        assert list(config) == sorted(config)

    def test_mlx_loads_the_weights(self, checkpoint: Path, tmp_path: Path) -> None:
        samevoice.convert(checkpoint, tmp_path / "out")
        weights = mlx_load(tmp_path / "out" / "model.safetensors")
        metadata = safetensors_file.read(tmp_path / "out" / "model.safetensors")[1]
        source = load_file(checkpoint)
        got = np.array(weights["sincnet.conv.1.weight"])
        assert np.array_equal(got, source["sincnet.conv1d.1.weight"].transpose(0, 2, 1))
        summed = source["lstm.bias_ih_l0"] + source["lstm.bias_hh_l0"]
        assert np.array_equal(np.array(weights["lstm.0.forward.bias"]), summed)
        assert metadata["format"] == "mlx"
        assert metadata["model_type"] == "segmentation"
        assert metadata["source_sha256"] == bundle.sha256(checkpoint)

    def test_the_model_loads_strictly_and_runs(self, checkpoint: Path, tmp_path: Path) -> None:
        samevoice.convert(checkpoint, tmp_path / "out")
        model = samevoice.load(tmp_path / "out")
        assert model(mx.zeros((1, 1, 16000))).shape == (1, 56, 7)

    def test_provenance_holds_the_hash_of_every_file(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        samevoice.convert(checkpoint, out)
        provenance = json.loads((out / "provenance.json").read_text())
        hashes = {name: bundle.sha256(out / name) for name in contents(out)}
        del hashes["provenance.json"]
        assert provenance["outputs"] == hashes
        source = provenance["sources"]["segmentation"]
        assert source["files"] == {"small.safetensors": bundle.sha256(checkpoint)}
        assert provenance["tool"]["version"] == samevoice.__version__
        assert len(provenance["rules_sha256"]["segmentation"]) == 64

    def test_provenance_holds_the_licence(self, checkpoint: Path, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        shutil.copy(checkpoint, folder)
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        for source, out in ((folder, "a"), (folder / checkpoint.name, "b")):
            samevoice.convert(source, tmp_path / out)
        assert licences(tmp_path / "a") == [
            {"id": "mit", "gated": None, "name": None, "link": None}
        ]
        assert licences(tmp_path / "b") == [None]

    def test_two_conversions_give_identical_bytes(self, checkpoint: Path, tmp_path: Path) -> None:
        for name in ("a", "b"):
            samevoice.convert(checkpoint, tmp_path / name)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")

    def test_every_tensor_stands_in_the_tally(self, checkpoint: Path, tmp_path: Path) -> None:
        made = samevoice.convert(checkpoint, tmp_path / "out")
        assert {row.source for row in made.rows} == set(load_file(checkpoint))
        targets = {row.target for row in made.rows}
        assert targets == set(load_file(tmp_path / "out" / "model.safetensors"))

    def test_dry_run_writes_nothing(self, checkpoint: Path, tmp_path: Path) -> None:
        made = samevoice.convert(checkpoint, tmp_path / "out", dry_run=True)
        assert made.path is None
        assert made.rows
        assert left_in(tmp_path) == ["small.safetensors"]


class TestShards:
    def test_are_named_and_indexed_as_mlx_expects(self, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        samevoice.convert(checkpoint, out, max_shard_size="100KB")
        names = sorted(path.name for path in out.glob("model-*"))
        total = len(names)
        assert total > 1
        assert names == [f"model-{n:05d}-of-{total:05d}.safetensors" for n in range(1, total + 1)]
        index = json.loads((out / "model.safetensors.index.json").read_text())
        held = {tensor: name for name in names for tensor in load_file(out / name)}
        assert index["weight_map"] == held
        assert list(index["weight_map"]) == sorted(held)
        arrays = [array for name in names for array in load_file(out / name).values()]
        assert index["metadata"] == {
            "total_size": sum(array.nbytes for array in arrays),
            "total_parameters": sum(array.size for array in arrays),
        }

    def test_hold_the_same_values_as_one_file(self, checkpoint: Path, tmp_path: Path) -> None:
        samevoice.convert(checkpoint, tmp_path / "one")
        samevoice.convert(checkpoint, tmp_path / "many", max_shard_size="50KB")
        one = load_file(tmp_path / "one" / "model.safetensors")
        many = bundle.read_weights(tmp_path / "many")
        assert all(np.array_equal(many[name].load(), one[name]) for name in one)
        assert samevoice.load(tmp_path / "many")(mx.zeros((1, 1, 16000))).shape == (1, 56, 7)

    def test_a_tensor_larger_than_a_shard_gets_its_own(self) -> None:
        slots = [
            safetensors_file.Slot(name, (size,), "uint8")
            for name, size in zip("abc", (1, 9, 1), strict=True)
        ]
        shards = bundle.shard(slots, 5)
        assert [[slot.name for slot in group] for group in shards.values()] == [["a"], ["b"], ["c"]]

    @pytest.mark.parametrize(
        ("text", "size"),
        [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2**31), ("1.5KB", 1500), ("7", 7)],
    )
    def test_sizes(self, text: str, size: int) -> None:
        assert bundle.parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "GB", "five GB", "-5GB", "0", "5XB", "1e3"])
    def test_what_is_no_size(self, text: str) -> None:
        with pytest.raises(BundleError):
            Options(max_shard_size=text)

    def test_an_index_cannot_lead_out_of_the_bundle(self, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        samevoice.convert(checkpoint, out)
        index = out / "model.safetensors.index.json"
        index.write_text(index.read_text().replace('"model.safetensors"', '"../small.safetensors"'))
        with pytest.raises(BundleError, match=r"'\.\./small\.safetensors', which lies outside"):
            bundle.read_weights(out)


class TestTypes:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_values_are_rounded_once_and_hertz_never(
        self, dtype: str, checkpoint: Path, tmp_path: Path
    ) -> None:
        samevoice.convert(checkpoint, tmp_path / "out", dtype=dtype)
        got = load_file(tmp_path / "out" / "model.safetensors")
        source = load_file(checkpoint)
        wanted = source["linear.0.weight"].astype(bundle_dtype(dtype))
        assert got["linear.0.weight"].tobytes() == wanted.tobytes()
        hertz = got["sincnet.conv.0.low_hz"]
        assert np.array_equal(hertz, source["sincnet.conv1d.0.filterbank.low_hz_"])
        assert hertz.dtype == np.float32
        samevoice.load(tmp_path / "out")

    def test_float16_overflow_names_the_tensor(self, tmp_path: Path) -> None:
        arrays = made_up.pyannet_arrays()
        arrays["linear.0.weight"][0, 0] = 70000
        save_file(arrays, tmp_path / "x.safetensors")
        with pytest.raises(
            ConversionError, match=r"'linear.0.weight' reaches 7e\+04, beyond float16"
        ):
            samevoice.convert(tmp_path / "x.safetensors", tmp_path / "out", dtype="float16")
        assert left_in(tmp_path) == ["x.safetensors"]

    @pytest.mark.parametrize("bits", [4, 8])
    @pytest.mark.parametrize("group", [32, 64])
    def test_quantised_as_mlx_does_it(self, bits: int, group: int, tmp_path: Path) -> None:
        source = made_up.pyannet_arrays(hidden=64)
        save_file(source, tmp_path / "x.safetensors")
        made = samevoice.convert(
            tmp_path / "x.safetensors", tmp_path / "out", q_bits=bits, q_group_size=group
        )
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        wanted = {"bits": bits, "group_size": group, "mode": "affine"}
        assert config["quantization"] == config["quantization_config"] == wanted
        weights = mlx_load(tmp_path / "out" / "model.safetensors")
        ours = mx.quantize(mx.array(source["linear.0.weight"]), group, bits)
        for end, array in zip(("weight", "scales", "biases"), ours, strict=True):
            assert mx.array_equal(weights[f"linear.0.{end}"], array)
        assert weights["lstm.0.forward.Wx"].dtype == mx.float32
        assert any("bits reach" in note and "linear layers" in note for note in made.parts[0].notes)
        samevoice.load(tmp_path / "out")

    def test_quantised_bfloat16_has_bfloat16_scales(self, tmp_path: Path) -> None:
        save_file(made_up.pyannet_arrays(hidden=64), tmp_path / "x.safetensors")
        samevoice.convert(tmp_path / "x.safetensors", tmp_path / "out", q_bits=4, dtype="bfloat16")
        weights = mlx_load(tmp_path / "out" / "model.safetensors")
        assert weights["linear.0.scales"].dtype == mx.bfloat16

    def test_plda_is_never_rounded(self, references: dict[str, Path], tmp_path: Path) -> None:
        samevoice.convert(references["full"], tmp_path / "out", dtype="float16", q_bits=4)
        plda = load_file(tmp_path / "out" / "plda" / "model.safetensors")
        source = np.load(references["full"] / "plda" / "plda.npz")
        assert plda["plda.tr"].tobytes() == np.ascontiguousarray(source["tr"]).tobytes()
        assert [plda[name].dtype.name for name in ("plda.tr", "xvec.lda")] == ["float64", "float32"]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"dtype": "int8"}, "dtype 'int8' is not one of float32, float16, bfloat16"),
            ({"q_bits": 3}, "3 bits are not supported: 4, 6 or 8"),
            ({"q_bits": 4, "q_group_size": 48}, "group size 48 is not one of"),
            (
                {"model_type": "PyanNat"},
                r"model type 'PyanNat' is not one of auto, full, [a-z, ]*, and no architecture: "
                "nearest is PyanNet; samevoice doctor lists all architectures$",
            ),
        ],
    )
    def test_bad_options(self, options: Any, said: str, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=said):
            samevoice.convert(checkpoint, tmp_path / "out", **options)


def bundle_dtype(name: str) -> Any:
    return ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)


class TestNothingIsLost:
    def test_an_existing_folder_stays(self, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        with pytest.raises(BundleError, match="exists: pass --overwrite"):
            samevoice.convert(checkpoint, out)
        with pytest.raises(BundleError, match="holds files that samevoice did not write"):
            samevoice.convert(checkpoint, out, overwrite=True)
        assert left_in(out) == ["mine.txt"]

    def test_overwriting_replaces_the_whole_bundle(self, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        samevoice.convert(checkpoint, out, max_shard_size="50KB")
        samevoice.convert(checkpoint, out, overwrite=True)
        assert not list(out.glob("model-*"))
        assert left_in(tmp_path) == ["out", "small.safetensors"]

    def test_a_failed_conversion_keeps_the_old_bundle(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        samevoice.convert(checkpoint, out)
        before = contents(out)

        def fail(what: str, done: int, total: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(BundleError, match=r"is full; .*nothing was changed"):
            samevoice.convert(checkpoint, out, overwrite=True, progress=fail)
        assert contents(out) == before
        assert left_in(tmp_path) == ["out", "small.safetensors"]

    def test_a_killed_conversion_leaves_no_bundle(self, checkpoint: Path, tmp_path: Path) -> None:
        script = (
            "import os, signal, sys, samevoice\n"
            "def stop(what, done, total):\n"
            "    if done > total / 2: os.kill(os.getpid(), signal.SIGKILL)\n"
            "samevoice.convert(sys.argv[1], sys.argv[2], progress=stop)\n"
        )
        out = tmp_path / "out"
        killed = subprocess.run([sys.executable, "-c", script, checkpoint, out])
        assert killed.returncode == -signal.SIGKILL
        assert not out.exists()
        assert any(name.endswith(".partial") for name in left_in(tmp_path))
        samevoice.convert(checkpoint, out)
        assert left_in(tmp_path) == ["out", "small.safetensors"]

    def test_killed_between_the_two_renames_the_old_bundle_comes_back(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        samevoice.convert(checkpoint, out)
        out.rename(tmp_path / ".out.old")
        with pytest.raises(BundleError, match="exists: pass --overwrite"):
            samevoice.convert(checkpoint, out)
        assert bundle.is_bundle(out)

    def test_files_that_somebody_added_are_not_overwritten(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        samevoice.convert(checkpoint, out)
        (out / "thesis.txt").write_text("mine")
        with pytest.raises(BundleError, match="holds files that samevoice did not write"):
            samevoice.convert(checkpoint, out, overwrite=True)
        assert (out / "thesis.txt").read_text() == "mine"

    def test_the_source_is_never_overwritten(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        """Not even where the folder of the source is called a bundle by its files."""
        inside = tmp_path / "out" / "source"
        shutil.copytree(references["segmentation"], inside)
        for overwrite in (False, True):
            with pytest.raises((BundleError, ConversionError)):
                samevoice.convert(inside, tmp_path / "out", overwrite=overwrite)
        with pytest.raises((BundleError, ConversionError)):
            samevoice.convert(inside, inside, overwrite=True)
        assert left_in(inside) == ["pytorch_model.bin"]

    def test_a_link_to_a_bundle_stays_a_link(self, checkpoint: Path, tmp_path: Path) -> None:
        real, link = tmp_path / "real", tmp_path / "link"
        samevoice.convert(checkpoint, real)
        link.symlink_to(real)
        samevoice.convert(checkpoint, link, overwrite=True, dtype="float16")
        assert link.is_symlink()
        assert json.loads((real / "config.json").read_text())["dtype"] == "float16"
        assert left_in(tmp_path) == ["link", "real", "small.safetensors"]

    def test_two_at_once_do_not_mix(self, checkpoint: Path, tmp_path: Path) -> None:
        said: list[str] = []

        def second(what: str, done: int, total: int) -> None:
            if said:
                return
            try:
                samevoice.convert(checkpoint, tmp_path / "out", dtype="float16")
            except BundleError as error:
                said.append(str(error))

        samevoice.convert(checkpoint, tmp_path / "out", progress=second)
        assert "another process is writing" in said[0]
        assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
        assert left_in(tmp_path) == ["out", "small.safetensors"]

    def test_those_who_wait_come_in_one_by_one(self, tmp_path: Path) -> None:
        inside: list[int] = []
        seen: list[int] = []

        def work() -> None:
            for _ in range(400):
                with bundle.alone(tmp_path / "out", wait=True):
                    inside.append(1)
                    seen.append(len(inside))
                    inside.pop()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        assert seen == [1] * 1600
        assert left_in(tmp_path) == []

    def test_a_real_write_error(self, checkpoint: Path, tmp_path: Path) -> None:
        """The system refuses to let files grow beyond 10 kB."""

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

        out = str(tmp_path / "out")
        command = [sys.executable, "-m", "samevoice", "convert", str(checkpoint), "--mlx-path", out]
        done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "cannot be written: File too large; nothing was changed" in done.stderr
        assert left_in(tmp_path) == ["small.safetensors"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_read_only_folder(self, checkpoint: Path, tmp_path: Path) -> None:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        with pytest.raises(BundleError, match="cannot be written: Permission denied"):
            samevoice.convert(checkpoint, locked / "out")

    def test_a_place_where_nothing_can_be_written(self, checkpoint: Path) -> None:
        said = f"{made_up.SEALED} cannot be written to: .*; choose another"
        with pytest.raises(SamevoiceError, match=said):
            samevoice.convert(checkpoint, made_up.SEALED / "out")

    def test_a_file_where_the_folder_should_go(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        for overwrite in (False, True):
            with pytest.raises(BundleError):
                samevoice.convert(checkpoint, tmp_path / "out", overwrite=overwrite)
        assert (tmp_path / "out").read_text() == "mine"

    def test_a_disk_that_lies_is_found_out(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = safetensors_file.write

        def lying(path: Path, *rest: Any) -> dict[str, str]:
            digests = honest(path, *rest)
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            return digests

        monkeypatch.setattr(safetensors_file, "write", lying)
        with pytest.raises(BundleError, match="reads back otherwise than written"):
            samevoice.convert(checkpoint, tmp_path / "out")
        assert left_in(tmp_path) == ["small.safetensors"]


class TestValues:
    def convert(self, tmp_path: Path, arrays: dict[str, np.ndarray], **options: Any) -> Any:
        save_file(arrays, tmp_path / "x.safetensors")
        return samevoice.convert(tmp_path / "x.safetensors", tmp_path / "out", **options)

    def test_half_precision_biases_are_added_without_loss(self, tmp_path: Path) -> None:
        arrays = {k: v.astype(np.float16) for k, v in made_up.pyannet_arrays().items()}
        arrays["lstm.bias_ih_l0"][:] = arrays["lstm.bias_hh_l0"][:] = 40000
        arrays["lstm.bias_ih_l0"][1], arrays["lstm.bias_hh_l0"][1] = 1.0, 2.0**-12
        self.convert(tmp_path, arrays)
        bias = np.array(mlx_load(tmp_path / "out" / "model.safetensors")["lstm.0.forward.bias"])
        assert bias[0] == 80000
        assert bias[1] == 1 + 2.0**-12  # in float16 this would be 1

    def test_a_float64_network_loads_in_mlx(self, tmp_path: Path) -> None:
        arrays = {k: v.astype(np.float64) for k, v in made_up.pyannet_arrays().items()}
        self.convert(tmp_path, arrays)
        assert samevoice.load(tmp_path / "out")(mx.zeros((1, 16000))).shape == (1, 56, 7)
        assert not samevoice.to_torch(tmp_path / "out", tmp_path / "x.pt").exact

    @pytest.mark.parametrize("dtype", ["int32", "uint16", "bool"])
    def test_weights_that_are_no_floats(self, dtype: str, tmp_path: Path) -> None:
        arrays = made_up.pyannet_arrays()
        arrays["linear.0.weight"] = arrays["linear.0.weight"].astype(dtype)
        with pytest.raises(ConversionError, match=r"type that no network .* 'linear\.0\.weight'"):
            self.convert(tmp_path, arrays)
        assert left_in(tmp_path) == ["x.safetensors"]

    @pytest.mark.parametrize("size", ["9" * 400, "1" * 400 + "GB", "0.0000001B", "-5GB", "1e9"])
    def test_sizes_that_are_none(self, size: str, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"no size|no room") as refused:
            self.convert(tmp_path, made_up.pyannet_arrays(), max_shard_size=size)
        assert len(str(refused.value)) < 200

    def test_nan_is_named(self, tmp_path: Path) -> None:
        arrays = made_up.pyannet_arrays()
        arrays["linear.0.weight"][0, :2] = np.nan
        with pytest.raises(ConversionError, match=r"'linear\.0\.weight' holds 2 values .* NaN"):
            self.convert(tmp_path, arrays)
        assert left_in(tmp_path) == ["x.safetensors"]

    def test_quantising_what_fits_no_group_says_so(self, tmp_path: Path) -> None:
        made = self.convert(tmp_path, made_up.pyannet_arrays(hidden=8), q_bits=4)
        assert any(note.startswith("4 bits reach 0.0%") for note in made.parts[0].notes)

    def test_quantised_parameters_are_counted_as_weights(self, tmp_path: Path) -> None:
        arrays = made_up.pyannet_arrays(hidden=64)
        totals = []
        for bits in (None, 4):
            self.convert(tmp_path, arrays, q_bits=bits, overwrite=True)
            index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
            totals.append(index["metadata"]["total_parameters"])
        assert totals[0] == totals[1]

    def test_names_from_outside_cannot_drive_a_terminal(self, tmp_path: Path) -> None:
        arrays = made_up.pyannet_arrays() | {"loss_func.\x1b]0;pwn\x07": np.zeros(1, np.float32)}
        save_file(arrays, tmp_path / "x.safetensors")
        command = [sys.executable, "-m", "samevoice", "inspect", str(tmp_path / "x.safetensors")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0
        assert "loss_func.?]0;pwn?" in done.stdout
        assert "\x1b" not in done.stdout


def licences(folder: Path) -> list[dict[str, object] | None]:
    """Every licence that a provenance.json below a folder holds, once."""
    found: list[dict[str, object] | None] = []
    for path in folder.rglob("provenance.json"):
        for source in json.loads(path.read_text())["sources"].values():
            found += [] if source["licence"] in found else [source["licence"]]
    return found


class TestReferences:
    @pytest.mark.parametrize("kind", ["segmentation", "embedding", "full"])
    def test_everything_made_from_them_says_so(
        self, kind: str, references: dict[str, Path], tmp_path: Path
    ) -> None:
        for source in (f"reference:{kind}", references[kind]):
            out = tmp_path / Path(source).name
            made = samevoice.convert(source, out)
            assert made.note == REFERENCE_NOTE
            assert REFERENCE_NOTE in (out / "README.md").read_text()
            for path in out.rglob("config.json"):
                assert json.loads(path.read_text())["note"] == REFERENCE_NOTE
            for path in out.rglob("provenance.json"):
                assert json.loads(path.read_text())["note"] == REFERENCE_NOTE
            own = {"id": "mit", "gated": False, "name": None, "link": None}
            assert licences(out) == [own if Path(source) != references[kind] else None]
            for path in out.rglob("model.safetensors"):
                assert safetensors_file.read(path)[1]["note"] == REFERENCE_NOTE

    def test_the_pipeline_has_its_parts_under_one_config(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        del references
        samevoice.convert("reference:full", tmp_path / "out")
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        assert config["components"] == ["embedding", "plda", "segmentation"]
        assert config["pipeline"]["threshold"] == 0.6
        for part in config["components"]:
            assert bundle.is_bundle(tmp_path / "out" / part)

    def test_identities_are_recorded(self, references: dict[str, Path], tmp_path: Path) -> None:
        made = samevoice.convert(references["embedding"], tmp_path / "out")
        identities = [row.source for row in made.rows if row.fate == "identity"]
        assert identities == ["resnet.seg_bn_1", "resnet.seg_2"]
        names = load_file(tmp_path / "out" / "model.safetensors")
        assert not any(name.startswith(tuple(identities)) for name in names)

    def test_running_statistics_are_carried(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        samevoice.convert(references["embedding"], tmp_path / "out")
        weights = load_file(tmp_path / "out" / "model.safetensors")
        variances = [weights[name] for name in weights if name.endswith("running_var")]
        assert len(variances) == 36
        assert all(abs(float(variance.mean()) - 1) > 1e-3 for variance in variances)


class TestSources:
    def test_a_pipeline_is_no_network(self, references: dict[str, Path], tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match="whole pipeline: --model-type segmentation"):
            samevoice.convert(references["full"], tmp_path / "out", model_type="segmentation")

    def test_a_network_is_no_pipeline(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"no pipeline: it has no config\.yaml"):
            samevoice.convert(checkpoint, tmp_path / "out", model_type="full")

    def test_a_pipeline_with_a_broken_part_writes_nothing(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        copy = tmp_path / "pipeline"
        shutil.copytree(references["full"], copy)
        (copy / "plda" / "plda.npz").unlink()
        with pytest.raises(SourceError, match=r"plda\.npz"):
            samevoice.convert(copy, tmp_path / "out")
        assert left_in(tmp_path) == ["pipeline"]

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("VBxClustering", "OracleClustering", "clustering 'OracleClustering', which is not"),
            ("VBxClustering", "AgglomerativeClustering", "gives 'min_cluster_size' as None"),
            ("pipelines.SpeakerDiarization", "pipelines.SpeechSeparation", "SpeechSeparation"),
            ("pipelines.SpeakerDiarization", "pipelines.VoiceActivityDetection", "'clustering'"),
            ("plda: $model/plda", "legacy: true", "names no plda"),
            ("plda: $model/plda", "other: 1", "asks for 'other', which is not supported"),
            ("pyannote.audio.pipelines.Speaker", "suplime.Suplime", "asks for 'plda', which"),
            ("threshold: 0.6", "threshold: high", "'high', which is no number"),
            ("dependencies:", "preprocessors:", "asks for 'preprocessors'"),
            ("$model/plda", "$model/../plda", "lies outside the pipeline"),
            ("params:\n  clustering", ": [", "no readable YAML"),
            ("pipeline:\n  name", "pipeline:\n  nom", "no pipeline config"),
        ],
    )
    def test_pipelines_that_are_not_supported(
        self, old: str, new: str, said: str, references: dict[str, Path], tmp_path: Path
    ) -> None:
        copy = tmp_path / "pipeline"
        shutil.copytree(references["full"], copy)
        text = (copy / "config.yaml").read_text()
        assert old in text
        (copy / "config.yaml").write_text(text.replace(old, new))
        with pytest.raises((ConversionError, SourceError), match=said):
            samevoice.convert(copy, tmp_path / "out")

    def test_a_pipeline_of_parts_from_elsewhere(
        self, references: dict[str, Path], tmp_path: Path
    ) -> None:
        pipeline = tmp_path / "pipeline"
        pipeline.mkdir()
        text = (references["full"] / "config.yaml").read_text()
        (pipeline / "config.yaml").write_text(text.replace("$model", str(references["full"])))
        (pipeline / "README.md").write_text("---\nlicense: mit\n---\n")
        samevoice.convert(pipeline, tmp_path / "out")
        said = json.loads((tmp_path / "out" / "provenance.json").read_text())["sources"]
        assert said["full"]["licence"]["id"] == "mit"
        assert said["plda"]["licence"] is None
        assert "$model/embedding" in (tmp_path / "out" / "origin" / "config.yaml").read_text()


def test_golden_segmentation_is_accounted_for(golden: Path, tmp_path: Path) -> None:
    source = golden / "checkpoints" / "segmentation-3.0-dequantised" / "pytorch_model.bin"
    made = samevoice.convert(source, tmp_path / "out")
    sizes = {row.source: np.prod(row.source_shape) for row in made.rows if row.source_shape}
    assert sum(sizes.values()) == 1_473_515
    assert {row.fate for row in made.rows} == {"used", "derived"}
