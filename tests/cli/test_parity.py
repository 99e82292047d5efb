"""parity, gate, judge and gallery as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import made_up
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import samevoice
from samevoice.parity.bounds import parse_override
from samevoice.parity.inputs import Example, batch, noise
from samevoice.parity.run import run

pytestmark = pytest.mark.long


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "samevoice", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def port(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("port") / "segmentation"
    samevoice.convert(references["segmentation"], folder)
    return folder


@pytest.fixture(scope="module")
def saved(port: Path) -> Path:
    """Where torch's outputs go, for a comparison without it."""
    return port.parent / "golden"


@pytest.fixture(scope="module")
def green(port: Path, saved: Path, references: dict[str, Path]) -> Path:
    given = ("--source", references["segmentation"], "--save-golden", saved)
    done = command("parity", port, *given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("passed")
    assert done.stderr == ""
    *shown, result, page, golden = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in shown[1:])
    folder = port.parent / "segmentation-parity"
    assert (result, page, golden) == (
        f"  result: {folder / 'result.json'}",
        f"  report: {folder / 'report.html'}",
        f"  golden: {saved}",
    )
    assert "This port may be trusted." in (folder / "report.html").read_text()
    return folder / "result.json"


def spoilt(port: Path, folder: Path) -> Path:
    """A copy of the bundle whose provenance is right and whose weights were made wrong."""
    import shutil

    shutil.copytree(port, folder)
    weights = load_file(folder / "model.safetensors")
    weights["lstm.1.forward.bias"] *= 1.001
    save_file(weights, folder / "model.safetensors", {"format": "mlx"})
    made_up.record(folder)
    return folder


@pytest.mark.parametrize(
    ("part", "source", "says"),
    [
        ("", "full", "is a whole pipeline: save golden data of its networks"),
        ("segmentation", "full", "is a whole pipeline: save golden data of its networks"),
        ("", "segmentation", "golden data are saved of one network at a time"),
    ],
)
def test_a_pipeline_has_no_golden_data_and_that_is_said_before_any_work(
    reference_bundle: Path,
    references: dict[str, Path],
    tmp_path: Path,
    part: str,
    source: str,
    says: str,
) -> None:
    saved, output = tmp_path / "golden", tmp_path / "parity"
    given = ("--source", references[source], "--save-golden", saved, "--output", output)
    done = command("parity", reference_bundle / part, *given)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
    assert not output.exists()
    assert not saved.exists()


def test_a_result_keeps_its_contract(green: Path) -> None:
    result = json.loads(green.read_text())
    assert result["passed"] is True
    assert result["first_divergence"] is None
    for key in ("model_type", "dtype", "device", "versions", "task", "limits", "loosened"):
        assert key in result
    assert len(result["source"]["sha256"]) == len(result["bundle"]["sha256"]) == 64
    wanted = {"name", "shape", "max_abs", "mean_abs", "nmse", "cosine_min", "noise_ratio", "passed"}
    assert all(wanted <= tap.keys() for tap in result["taps"])


def test_the_gate_lets_green_through(green: Path) -> None:
    done = command("gate", green)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_gate_wants_the_result_of_this_very_bundle(
    green: Path, port: Path, tmp_path: Path
) -> None:
    assert command("gate", green, "--bundle", port).returncode == 0
    refused = command("gate", green, "--bundle", spoilt(port, tmp_path / "spoilt"))
    assert refused.returncode == 1
    assert "another bundle, or the bundle was changed" in refused.stderr


def test_a_config_that_no_tap_shows_is_refused(
    port: Path, references: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(port, tmp_path / "edited")
    config = tmp_path / "edited" / "config.json"
    config.write_text(config.read_text().replace("speaker#2", "speaker#9"))
    done = command("parity", tmp_path / "edited", "--source", references["segmentation"])
    assert done.returncode == 2
    assert "says specifications" in done.stderr


def test_a_wrong_bundle_exits_1_and_names_the_layer(
    port: Path, references: dict[str, Path], tmp_path: Path, green: Path
) -> None:
    bundle = spoilt(port, tmp_path / "spoilt")
    done = command(
        "parity", bundle, "--source", references["segmentation"], "--output", tmp_path / "r"
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "lstm.1.forward" in done.stderr
    assert "first divergence: lstm.1.forward" in done.stdout
    gated = command("gate", green, tmp_path / "r" / "result.json")
    assert gated.returncode == 1
    assert "1 of 2 results do not pass" in gated.stderr
    reproduction = tmp_path / "r" / "reproduction"
    judged = command(
        "judge",
        reproduction / "reference.safetensors",
        reproduction / "candidate.safetensors",
        "--truth",
        reproduction / "truth.safetensors",
    )
    assert judged.returncode == 1
    assert "lstm.1.forward" in judged.stdout


def test_a_result_that_was_edited_is_refused(green: Path, tmp_path: Path) -> None:
    result = json.loads(green.read_text())
    result["taps"][0]["noise_ratio"] = 50.0
    (tmp_path / "result.json").write_text(json.dumps(result))
    done = command("gate", tmp_path / "result.json")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_golden_outputs_need_no_torch(port: Path, green: Path, saved: Path, tmp_path: Path) -> None:
    assert green.is_file()
    hidden = "import sys; sys.modules['torch'] = sys.modules['pyannote'] = None; "
    script = hidden + "from samevoice.cli import main; main()"
    for bundle, code in ((port, 0), (spoilt(port, tmp_path / "spoilt"), 1)):
        line = [
            sys.executable,
            "-c",
            script,
            "replay",
            str(bundle),
            "--golden",
            str(saved),
        ]
        done = subprocess.run(line, capture_output=True, text=True, timeout=200)
        assert done.returncode == code, done.stderr


def test_loosened_limits_do_not_pass_by_themselves(
    port: Path, references: dict[str, Path], tmp_path: Path
) -> None:
    sounds = [Example("noise", batch([noise(8000)]), labels=("",))]
    asked = [parse_override("noise_ratio=50")]
    made = run(port, references["segmentation"], inputs=sounds, overrides=asked, output=tmp_path)
    assert made.passed
    refused = command("gate", tmp_path / "result.json")
    assert refused.returncode == 1
    assert "loosened" in refused.stdout
    assert "limits were loosened" in refused.stderr
    assert command("gate", tmp_path / "result.json", "--allow-loosened").returncode == 0


def test_another_source_is_refused(port: Path, references: dict[str, Path], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    samevoice.convert(references["embedding"], bundle)
    done = command("parity", bundle, "--source", references["segmentation"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds no embedding" in done.stderr


class TestJudge:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        values = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
        save_file({"a": values, "b": values * 2}, tmp_path / "x.safetensors")
        np.savez(tmp_path / "y.npz", a=values * np.float32(1 + 1e-6), b=values * 2)
        return tmp_path / "x.safetensors", tmp_path / "y.npz"

    def test_two_formats_agree(self, pair: tuple[Path, Path]) -> None:
        done = command("judge", *pair)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_tighter_limit_turns_it_red(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "limits.toml").write_text('[limits]\ntaps."a" = {noise_ratio = 2}\n')
        done = command("judge", *pair, "--limits", tmp_path / "limits.toml")
        assert done.returncode == 1
        assert "a: noise_ratio is" in done.stderr

    def test_a_missing_tap_fails(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        save_file({"a": load_file(pair[0])["a"]}, tmp_path / "z.safetensors")
        done = command("judge", pair[0], tmp_path / "z.safetensors")
        assert done.returncode == 1
        assert "b: missing in the candidate" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nothing.npz", "nothing.npz"], "nothing.npz"),
            (["x.safetensors", "y.npz", "--limit", "noise=3"], "unknown metric 'noise'"),
            (
                ["x.safetensors", "y.npz", "--limit", "c:noise_ratio=3"],
                "'c', which was not compared",
            ),
        ],
    )
    def test_bad_input_is_one_line(
        self, arguments: list[str], said: str, pair: tuple[Path, Path]
    ) -> None:
        here = pair[0].parent
        done = command("judge", *(here / a if "." in a else a for a in arguments))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["parity", "x"], "Missing option '--source'"),
        (["replay", "x"], "Missing option '--golden'"),
        (["replay", "x", "--source", "a", "--golden", "b"], "No such option: --source"),
        (["replay", "x", "--golden", "b", "--audio", "c"], "No such option: --audio"),
        (["replay", "x", "--golden", "/nowhere"], "/nowhere"),
        (["parity", "x", "--golden", "/nowhere"], "No such option: --golden"),
        (["parity", "x", "--input", "c", "--input=d"], "No such option: --input"),
        (["parity", "/nowhere", "--source", "a"], "config.json"),
        (["gate", "/nowhere"], "cannot read /nowhere"),
        (["gate"], "RESULT"),
        (["gallery", "reference:nothing"], "there is no 'reference:nothing'"),
    ],
)
def test_usage_is_one_line(arguments: list[str], said: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
