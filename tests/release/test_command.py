"""release and verify as they are typed, the hub included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub import Hub
from made_release import Ready, edit, edit_result, rejudged

from samevoice.converters.bundle import read_sums

pytestmark = pytest.mark.long

TOKEN = "hf_secretsecretsecretsecret"


def command(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "samevoice", *map(str, words)]
    env = {**os.environ, **more}
    return subprocess.run(line, capture_output=True, text=True, timeout=280, env=env)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


@pytest.fixture
def online(tmp_path: Path) -> dict[str, str]:
    """What the hub's client is told, but for where the hub is."""
    return {"HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}


def test_a_release_is_made_and_verified_at_once(ready: Ready) -> None:
    target = ready.folder / "out"
    done = command("release", ready.bundle, "--result", ready.parity, "--output", target,
                   "--license-ok")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    *checks, last = lines(done.stdout)
    assert [line.split()[1] for line in checks] == [
        "files", "sha256", "signature", "provenance", "verdict", "weights", "inputs", "limits",
        "corpus", "gallery", "replay",
    ]  # fmt: skip
    assert [line[0] for line in checks] == [*"✓✓–✓✓✓✓✓✓✓✓"]
    assert last.startswith(f"released {target}: ")
    again = command("verify", target)
    assert again.returncode == 0
    assert lines(again.stdout) == checks


def test_every_reason_is_said_and_the_first_is_the_error(ready: Ready) -> None:
    edit_result(ready, lambda one: rejudged(one, "noise_ratio=0.001"))
    ready.gallery.unlink()
    target = ready.folder / "out"
    done = command("release", ready.bundle, "--result", ready.parity, "--output", target)
    assert done.returncode == 1
    said = lines(done.stdout)
    assert [line.split()[:2] for line in said] == [
        ["refused", "verdict"],
        ["refused", "gallery"],
        ["refused", "licence"],
    ]
    (error,) = lines(done.stderr)
    assert "is not released, for 3 reasons, first: the segmentation is red: " in error
    assert error.endswith("result.json")  # what to do about it; there is no page to be read
    assert not target.exists()


def test_a_reason_is_no_longer_than_a_line_may_be(ready: Ready) -> None:
    def named_at_length(provenance: dict[str, Any]) -> None:
        provenance["sources"]["segmentation"]["name"] = "x" * 2000

    edit(ready.bundle / "provenance.json", named_at_length)
    ready.gallery.unlink()
    done = command("release", ready.bundle, "--result", ready.parity, "--dry-run")
    assert done.returncode == 1
    said = lines(done.stdout)
    assert [line.split()[1] for line in said] == ["gallery", "licence"]
    assert max(map(len, said)) <= 300


def test_dry_run_writes_nothing(ready: Ready) -> None:
    before = sorted(ready.folder.rglob("*"))
    words = ("release", ready.bundle, "--result", ready.parity, "--license-ok", "--dry-run")
    done = command(*words)
    assert done.returncode == 0
    assert done.stdout.startswith("can be released: ")
    assert sorted(ready.folder.rglob("*")) == before
    refused = command(*words[:-2], "--dry-run")
    assert refused.returncode == 1
    assert "names no licence" in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "release needs --output DIR, or --dry-run"),
        (("--output", "x", "--private"), "--private goes with --upload-repo"),
        (("--output", "x", "--upload-repo", "no name"), "no name"),
        (("--dry-run", "--accept-loosened", "noise_ratio"), "needs its own --because"),
        (("--dry-run", "--accept-loosened", "x", "--because", " "), "--because is empty"),
        (("--dry-run", "--accept-loosened", "x", "--because", "y"), "no limit was loosened"),
    ],
)
def test_what_cannot_be_meant_is_one_line(made: Ready, words: tuple[str, ...], said: str) -> None:
    done = command("release", made.bundle, "--result", made.parity, *words)
    assert done.returncode == 2
    (error,) = lines(done.stderr)
    assert said in error


@pytest.mark.parametrize(
    ("place", "said"),
    [("bundle/config.json", "is a file: name a release's folder"), ("bundle", "has no SHA256SUMS")],
)
def test_what_is_no_release_is_bad_input(made: Ready, place: str, said: str) -> None:
    done = command("verify", made.folder / place)
    assert (done.returncode, done.stdout) == (2, "")
    (error,) = lines(done.stderr)
    assert said in error


def test_a_folder_that_was_tampered_with_fails_by_name(ready: Ready) -> None:
    weights = ready.release / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = command("verify", ready.release)
    assert done.returncode == 1
    assert "✗ sha256      model.safetensors is not what was released" in done.stdout
    (error,) = lines(done.stderr)
    assert error.endswith("is not what was released: see the lines marked ✗")
    as_json = command("verify", ready.release, "--json")
    found = json.loads(as_json.stdout)
    assert (as_json.returncode, found["passed"]) == (1, False)
    assert next(one["check"] for one in found["checks"] if not one["passed"]) == "sha256"


def test_there_and_back_again(ready: Ready, online: dict[str, str]) -> None:
    """Sent, read back, and verified by its name as whoever downloads it does."""
    with Hub({}) as hub:
        at = {**online, "HF_ENDPOINT": hub.url}
        target = ready.folder / "out"
        done = command("release", ready.bundle, "--result", ready.parity, "--output", target,
                       "--license-ok", "--upload-repo", "me/seg-mlx", **at)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"uploaded {hub.url}/me/seg-mlx" in done.stdout
        assert "each read back" in done.stdout
        stored = hub.repos["me/seg-mlx"].commits[hub.commit("me/seg-mlx")]
        assert stored.keys() - {".gitattributes"} == {"SHA256SUMS", *read_sums(target)}
        shutil.rmtree(target)
        back = command("verify", "me/seg-mlx", **at)
        assert back.returncode == 0, back.stdout + back.stderr
        assert [line[0] for line in lines(back.stdout)] == [*"✓✓–✓✓✓✓✓✓✓✓"]
    said = done.stdout + done.stderr + back.stdout + back.stderr
    assert TOKEN not in said
    files = [path for path in ready.folder.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_the_hubs_copy_is_what_is_verified(ready: Ready, online: dict[str, str]) -> None:
    files = {name: (ready.release / name).read_bytes() for name in read_sums(ready.release)}
    files["SHA256SUMS"] = (ready.release / "SHA256SUMS").read_bytes()
    files["config.json"] = files["config.json"].replace(b"10", b"11", 1)
    with Hub({"me/seg-mlx": files}) as hub:
        done = command("verify", "me/seg-mlx", HF_ENDPOINT=hub.url, **online)
        assert done.returncode == 1
        assert "✗ sha256      config.json is not what was released" in done.stdout
        gone = command("verify", "me/nothing", HF_ENDPOINT=hub.url, **online)
    assert gone.returncode == 2
    (error,) = lines(gone.stderr)
    assert "me/nothing" in error
    assert TOKEN not in error
