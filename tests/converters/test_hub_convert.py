"""The command itself against a hub: a network, a pipeline in one repository, one of many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub import Hub

from samevoice import to_torch
from samevoice.converters.bundle import sha256
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

TOKEN = "hf_" + "aTokenThatMustNeverShowAnywhere"
CARD = b"---\nlicense: cc-by-4.0\n---\n# A model\n"


def samevoice(
    home: Path, hub: Hub, *arguments: str, **env: str
) -> subprocess.CompletedProcess[str]:
    settings = {
        **os.environ,
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        "HF_HUB_ETAG_TIMEOUT": "2",
        **env,
    }
    command = [sys.executable, "-m", "samevoice", *arguments]
    done = subprocess.run(
        command, cwd=home, env=settings, capture_output=True, text=True, timeout=120
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def provenance(folder: Path) -> dict[str, dict[str, object]]:
    sources: dict[str, dict[str, object]] = json.loads((folder / "provenance.json").read_text())[
        "sources"
    ]
    return sources


def test_a_gated_network_with_a_token(references: dict[str, Path], tmp_path: Path) -> None:
    repo = {**files(references["segmentation"]), "README.md": b"hello", "big.onnx": b"x" * 1000}
    with Hub({"pyannote/segmentation-3.0": repo}) as hub:
        hub.repos["pyannote/segmentation-3.0"].readers = {TOKEN}
        done = samevoice(
            tmp_path, hub, "convert", "--hf-path", "pyannote/segmentation-3.0", HF_TOKEN=TOKEN
        )
        assert done.returncode == 0, done.stderr
        assert "big.onnx" not in " ".join(hub.fetched())
        commit = hub.commit("pyannote/segmentation-3.0")
    said = provenance(tmp_path / "mlx_model")["segmentation"]
    assert (said["kind"], said["name"]) == ("hub", "pyannote/segmentation-3.0")
    assert said["revision"] == commit
    digest = sha256(references["segmentation"] / "pytorch_model.bin")
    assert said["files"] == {"pytorch_model.bin": digest}
    card = (tmp_path / "mlx_model" / "README.md").read_text()
    assert "base_model: pyannote/segmentation-3.0" in card
    assert all(TOKEN.encode() not in data for data in files(tmp_path / "mlx_model").values())


def test_a_pipeline_with_its_parts_inside(references: dict[str, Path], tmp_path: Path) -> None:
    with Hub({"org/community": files(references["full"])}) as hub:
        done = samevoice(tmp_path, hub, "convert", "org/community", "--mlx-path", "out", "--quiet")
        assert done.returncode == 0, done.stderr
        commit = hub.commit("org/community")
    sources = provenance(tmp_path / "out")
    assert {source["revision"] for source in sources.values()} == {commit}
    assert {name: source["subfolder"] for name, source in sources.items()} == {
        "segmentation": "segmentation",
        "embedding": "embedding",
        "plda": "plda",
        "full": None,
    }


def test_a_pipeline_and_its_parts_come_under_one_licence(
    references: dict[str, Path], tmp_path: Path
) -> None:
    repo = {**files(references["full"]), "README.md": CARD}
    with Hub({"org/community": repo}) as hub:
        hub.repos["org/community"].licensed = {TOKEN}
        for out, env in (("a", {"HF_TOKEN": TOKEN}), ("b", {"HF_HUB_OFFLINE": "1"})):
            done = samevoice(
                tmp_path, hub, "convert", "org/community", "--mlx-path", out, "--quiet", **env
            )
            assert done.returncode == 0, done.stderr
    assert files(tmp_path / "a") == files(tmp_path / "b")
    terms = {"id": "cc-by-4.0", "gated": True, "name": None, "link": None}
    whole = {name: source["licence"] for name, source in provenance(tmp_path / "a").items()}
    assert whole == dict.fromkeys(("full", "segmentation", "embedding", "plda"), terms)
    assert provenance(tmp_path / "a" / "plda")["plda"]["licence"] == terms


def test_a_pipeline_of_other_repositories(references: dict[str, Path], tmp_path: Path) -> None:
    config = (references["full"] / "config.yaml").read_text()
    for part, where in (
        ("segmentation", "org/seg"),
        ("embedding", "org/emb"),
        ("plda", "org/plda"),
    ):
        config = config.replace(f"$model/{part}", where)
    repos = {
        "org/pipe": {"config.yaml": config.encode()},
        "org/seg": {**files(references["full"] / "segmentation"), "README.md": CARD},
        "org/emb": files(references["full"] / "embedding"),
        "org/plda": files(references["full"] / "plda"),
    }
    with Hub(repos) as hub:
        hub.repos["org/emb"].licensed = {TOKEN}
        done = samevoice(
            tmp_path, hub, "convert", "org/pipe", "--mlx-path", "out", "--quiet", HF_TOKEN=TOKEN
        )
        assert done.returncode == 0, done.stderr
    names = {name: source["name"] for name, source in provenance(tmp_path / "out").items()}
    licences = {name: source["licence"] for name, source in provenance(tmp_path / "out").items()}
    unknown = {"id": None, "gated": False, "name": None, "link": None}
    assert licences == {
        "full": unknown,
        "segmentation": unknown | {"id": "cc-by-4.0"},
        "embedding": unknown | {"gated": True},
        "plda": unknown,
    }
    assert names == {
        "full": "org/pipe",
        "segmentation": "org/seg",
        "embedding": "org/emb",
        "plda": "org/plda",
    }


# As pyannote published them; all but the embedding's id is the same.
VERSION_3 = """\
version: {version}

pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: AgglomerativeClustering
    embedding: {embedding}
    embedding_batch_size: 32
    embedding_exclude_overlap: true
    segmentation: pyannote/segmentation-3.0
    segmentation_batch_size: 32

params:
  clustering:
    method: centroid
    min_cluster_size: 12
    threshold: 0.7045654963945799
  segmentation:
    min_duration_off: 0.0
"""
RESNET = "embedding/pytorch_model.bin"
RESNETS = {
    "3.1": "pyannote/wespeaker-voxceleb-resnet34-LM",
    "3.0": "hbredin/wespeaker-voxceleb-resnet34-LM",
}


def version_3(version: str, references: dict[str, Path]) -> dict[str, dict[str, bytes]]:
    config = VERSION_3.format(version=f"{version}.0", embedding=RESNETS[version])
    return {
        f"pyannote/speaker-diarization-{version}": {"config.yaml": config.encode()},
        "pyannote/segmentation-3.0": files(references["segmentation"]),
        RESNETS[version]: {"pytorch_model.bin": files(references["full"])[RESNET]},
    }


@pytest.mark.parametrize("version", ["3.1", "3.0"])
def test_pyannotes_pipelines_of_version_3(
    version: str, references: dict[str, Path], tmp_path: Path
) -> None:
    word = f"pyannote/speaker-diarization-{version}"
    with Hub(version_3(version, references)) as hub:
        hub.repos["pyannote/segmentation-3.0"].licensed = {TOKEN}
        done = samevoice(
            tmp_path, hub, "convert", word, "--mlx-path", "out", "--quiet", HF_TOKEN=TOKEN
        )
        assert done.returncode == 0, done.stderr
        commits = {name: hub.commit(name) for name in hub.repos}
    made = provenance(tmp_path / "out")
    assert {part: (source["name"], source["revision"]) for part, source in made.items()} == {
        "full": (word, commits[word]),
        "segmentation": ("pyannote/segmentation-3.0", commits["pyannote/segmentation-3.0"]),
        "embedding": (RESNETS[version], commits[RESNETS[version]]),
    }
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pipeline"] == {
        "clustering": "AgglomerativeClustering",
        "method": "centroid",
        "min_cluster_size": 12,
        "threshold": 0.7045654963945799,
        "embedding_exclude_overlap": True,
        "min_duration_off": 0.0,
        "segmentation_step": 0.1,
    }
    assert SpeakerDiarizationPipeline(tmp_path / "out").plda is None


# As its authors published it, and with nothing but its name: then all else is its own default.
SUPLIME = """\
dependencies:
  pyannote.audio: 4.0.7
  suplime: 0.1.0
pipeline:
  name: suplime.SuplimeDiarization
  params:
    segmentation: $model/segmentation
    embedding: $model/embedding
    clustering: AgglomerativeClustering
    embedding_exclude_overlap: true
    embedding_batch_size: 32
    segmentation_batch_size: 32
params:
  segmentation:
    min_duration_off: 0.0
  clustering:
    method: centroid
    min_cluster_size: 12
    threshold: 0.72
"""
NAME_ALONE = "pipeline: {name: suplime.SuplimeDiarization}\n"
NON_COMMERCIAL = b"---\nlicense: cc-by-nc-4.0\n---\n# SUPlime\n"


@pytest.mark.parametrize("config", [SUPLIME, NAME_ALONE])
def test_suplimes_pipeline_and_its_licence(
    config: str, references: dict[str, Path], tmp_path: Path
) -> None:
    repo = {name: data for name, data in files(references["full"]).items() if "plda" not in name}
    repo |= {"config.yaml": config.encode(), "README.md": NON_COMMERCIAL}
    with Hub({"rewayai/suplime": repo}) as hub:
        done = samevoice(
            tmp_path, hub, "convert", "rewayai/suplime", "--mlx-path", "out", "--quiet"
        )
        assert done.returncode == 0, done.stderr
    made = provenance(tmp_path / "out")
    assert {part: (source["name"], source["subfolder"]) for part, source in made.items()} == {
        "full": ("rewayai/suplime", None),
        "segmentation": ("rewayai/suplime", "segmentation"),
        "embedding": ("rewayai/suplime", "embedding"),
    }
    terms = {"id": "cc-by-nc-4.0", "gated": False, "name": None, "link": None}
    assert [source["licence"] for source in made.values()] == [terms] * 3
    for part in ("", "segmentation", "embedding"):
        assert "license: cc-by-nc-4.0" in (tmp_path / "out" / part / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pipeline"] == {
        "clustering": "AgglomerativeClustering",
        "method": "centroid",
        "min_cluster_size": 12,
        "threshold": 0.72,
        "embedding_exclude_overlap": True,
        "min_duration_off": 0.0,
        "segmentation_step": 0.1,
        "segmentation_batch_size": 32,
    }
    assert SpeakerDiarizationPipeline(tmp_path / "out").plda is None
    to_torch(tmp_path / "out", tmp_path / "back")
    back = (tmp_path / "back" / "config.yaml").read_text()
    parts = ("segmentation", "embedding")
    wanted = yaml.safe_load(config)
    wanted["pipeline"].setdefault("params", {part: f"$model/{part}" for part in parts})
    assert yaml.safe_load(back) == wanted
    assert {path.name for path in (tmp_path / "back").iterdir()} == {"config.yaml", *parts}


def test_an_embedding_that_is_onnx_is_refused_with_where_its_weights_are(
    references: dict[str, Path], tmp_path: Path
) -> None:
    repos = version_3("3.0", references) | {RESNETS["3.0"]: {"speaker-embedding.onnx": b"x"}}
    with Hub(repos) as hub:
        done = samevoice(tmp_path, hub, "convert", "pyannote/speaker-diarization-3.0")
    assert done.returncode == 2
    assert done.stderr.startswith("samevoice: embedding: ")
    assert "holds speaker-embedding.onnx and no PyTorch weights" in done.stderr
    assert RESNETS["3.1"] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_part_of_an_older_revision(references: dict[str, Path], tmp_path: Path) -> None:
    repos = version_3("3.1", references)
    config = repos["pyannote/speaker-diarization-3.1"]["config.yaml"]
    pinned = config.replace(b"segmentation-3.0", b"segmentation-3.0@old")
    repos["pyannote/speaker-diarization-3.1"]["config.yaml"] = pinned
    with Hub(repos) as hub:
        old = hub.repos["pyannote/segmentation-3.0"].push(
            files(references["segmentation"]) | {"README.md": b"old"}, "old"
        )
        done = samevoice(
            tmp_path, hub, "convert", "pyannote/speaker-diarization-3.1", "--mlx-path", "out"
        )
        assert done.returncode == 0, done.stderr
    assert provenance(tmp_path / "out")["segmentation"]["revision"] == old


def test_offline_from_the_cache_gives_the_same_bytes(
    references: dict[str, Path], tmp_path: Path
) -> None:
    with Hub({"org/seg": files(references["segmentation"])}) as hub:
        for out, env in (("a", {}), ("b", {"HF_HUB_OFFLINE": "1"})):
            done = samevoice(
                tmp_path, hub, "convert", "org/seg", "--mlx-path", out, "--quiet", **env
            )
            assert done.returncode == 0, done.stderr
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_refusal_is_one_line_and_writes_nothing(
    debug: list[str], references: dict[str, Path], tmp_path: Path
) -> None:
    with Hub({"org/seg": files(references["segmentation"])}) as hub:
        hub.repos["org/seg"].readers = {"hf_another"}
        done = samevoice(tmp_path, hub, *debug, "convert", "org/seg", HF_TOKEN=TOKEN)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert (len(lines) > 1) == bool(debug)
    assert lines[-1].startswith("samevoice: ")
    assert "https://huggingface.co/settings/tokens" in lines[-1]
    assert not (tmp_path / "mlx_model").exists()
