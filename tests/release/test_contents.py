"""What a release holds: what MLX tools expect, a card that is true, the proof, and the sums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_release import Ready, edit, edit_result, rejudged

import samevoice
from samevoice.converters import bundle as bundles
from samevoice.converters.inspect import inspect
from samevoice.errors import BundleError
from samevoice.parity import result as results
from samevoice.parity.identity import fingerprint
from samevoice.release import contents, terms

pytestmark = pytest.mark.long


def front(folder: Path) -> dict[str, object]:
    text = (folder / "README.md").read_text()
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_it_holds_what_mlx_tools_expect_and_the_proof(made: Ready) -> None:
    names = set(bundles.files_in(made.release))
    assert {
        "model.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "README.md",
        "provenance.json",
        "SHA256SUMS",
        "parity/result.json",
        "parity/report.html",
        "parity/ladder.svg",
        "parity/gallery.json",
        "parity/release.json",
        "parity/golden/golden.json",
        "parity/golden/000.safetensors",
    } <= names
    assert samevoice.load(made.release).config["model_type"] == "segmentation"
    assert inspect(str(made.release)).changed == ()


def test_the_sums_are_what_sha256sum_checks(made: Ready) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=made.release,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    sums = bundles.read_sums(made.release)
    assert sums.keys() == set(bundles.files_in(made.release)) - {"SHA256SUMS"}


def test_the_weights_and_the_result_are_the_very_same_bytes(made: Ready) -> None:
    for name in ("model.safetensors", "config.json", "model.safetensors.index.json"):
        assert (made.release / name).read_bytes() == (made.bundle / name).read_bytes()
    proof = made.release / "parity" / "result.json"
    assert proof.read_bytes() == (made.parity / "result.json").read_bytes()
    assert fingerprint(made.release) == fingerprint(made.bundle)


def test_twice_gives_the_same_bytes(ready: Ready) -> None:
    before = (ready.release / "SHA256SUMS").read_bytes()
    again = contents.release(ready.offer(), ready.folder / "again")
    assert (again.path / "SHA256SUMS").read_bytes() == before
    assert again.sha256 == hashlib.sha256(before).hexdigest()
    contents.release(ready.offer(), ready.release, overwrite=True)
    assert (ready.release / "SHA256SUMS").read_bytes() == before


def test_what_is_there_is_not_overwritten_unasked(ready: Ready) -> None:
    with pytest.raises(BundleError, match="exists: pass --overwrite"):
        contents.release(ready.offer(), ready.release)
    (ready.release / "thesis.tex").write_text("mine")
    with pytest.raises(BundleError, match="did not write"):
        contents.release(ready.offer(), ready.release, overwrite=True)
    assert (ready.release / "thesis.tex").read_text() == "mine"


def test_a_full_disk_is_named_and_not_what_was_copied(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:  # as Python's own: it names the source first
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    target = ready.folder / "elsewhere" / "out"
    with pytest.raises(BundleError) as caught:
        contents.release(ready.offer(), target)
    assert str(caught.value) == (
        f"{target} cannot be written: the disk of {target.parent} is full; make room there, or "
        "choose another place; nothing was changed"
    )
    assert list(target.parent.iterdir()) == []


def test_the_card_is_found_and_says_what_was_measured(made: Ready) -> None:
    assert front(made.release) == {
        "library_name": "mlx",
        "tags": ["mlx", "speaker-segmentation"],
        "pipeline_tag": "voice-activity-detection",
    }
    text = (made.release / "README.md").read_text()
    result = results.read(made.parity / "result.json")
    assert f"| {len(result.taps)} of {len(result.taps)} |" in text
    assert "](parity/ladder.svg)" in text
    assert "](parity/report.html)" in text
    assert "samevoice verify" in text
    assert "x.ckpt" in text
    assert not re.search(r"/tmp|/root|/home", text)


def test_the_cards_python_runs(made: Ready, tmp_path: Path) -> None:
    text = (made.release / "README.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(code) == 1
    (place,) = re.findall(r'samevoice\.load\("([^"]+)"\)', code[0])
    (tmp_path / place).symlink_to(made.release)
    done = subprocess.run(
        [sys.executable, "-c", code[0]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, ")


def test_a_hub_source_and_its_licence_stand_in_the_card(ready: Ready) -> None:
    def from_hub(found: dict[str, object]) -> None:
        found["sources"]["segmentation"] |= {  # type: ignore[index]
            "kind": "hub",
            "name": "pyannote/segmentation-3.0",
            "revision": "f" * 40,
            "licence": {
                "id": "mit",
                "gated": True,
                "name": None,
                "link": None,
                "attribution": "Copyright (c) 2022 <CNRS>",
            },
        }

    edit(ready.bundle / "provenance.json", from_hub)
    assert [one.term for one in ready.offer(licence_ok=False).refusals] == ["licence"]
    made = contents.release(ready.offer(), ready.folder / "hub", repo="me/segmentation-3.0-mlx")
    card = front(made.path)
    assert (card["license"], card["base_model"]) == ("mit", "pyannote/segmentation-3.0")
    text = (made.path / "README.md").read_text()
    assert "# segmentation-3.0 in MLX" in text
    assert "hf download me/segmentation-3.0-mlx --local-dir segmentation-3.0-mlx" in text
    assert "| mit, gated |" in text
    assert "- `segmentation`: Copyright " in text
    assert "CNRS" in text
    assert "<CNRS>" not in text
    assert "https://huggingface.co/pyannote/segmentation-3.0" in text


def test_what_was_accepted_stands_in_the_card_and_in_the_record(ready: Ready) -> None:
    edit_result(ready, lambda one: rejudged(one, "noise_ratio=30"))
    accepted = (terms.Accepted("noise_ratio", "the <b>room</b> was loud"),)
    made = contents.release(ready.offer(accepted=accepted), ready.folder / "loose")
    text = (made.path / "README.md").read_text()
    assert "30 instead of 3" in text
    assert "room" in text
    assert "<b>" not in text
    record = json.loads((made.path / "parity" / "release.json").read_text())
    assert record["accepted"] == [{"limit": "noise_ratio", "because": "the <b>room</b> was loud"}]


def test_only_what_belongs_to_the_golden_data_goes_out(ready: Ready) -> None:
    (ready.parity / "golden" / ".token").write_text("hf_secret")
    (ready.parity / "golden" / "notes").mkdir()
    made = contents.release(ready.offer(), ready.folder / "new")
    assert bundles.files_in(made.path) == bundles.files_in(ready.release)


def test_what_does_not_pass_its_own_checks_gets_no_name(ready: Ready) -> None:
    def no(folder: Path) -> None:
        assert (folder / "SHA256SUMS").is_file()
        raise terms.RefusedError("not released: no")

    before = (ready.release / "SHA256SUMS").read_bytes()
    for target in (ready.folder / "new", ready.release):
        with pytest.raises(terms.RefusedError, match="not released: no"):
            contents.release(ready.offer(), target, overwrite=True, check=no)
    assert not (ready.folder / "new").exists()
    assert (ready.release / "SHA256SUMS").read_bytes() == before


@pytest.mark.parametrize("inside", ["bundle", "bundle/r", "parity/golden/r"])
def test_it_is_not_written_into_what_it_is_made_from(ready: Ready, inside: str) -> None:
    before = sorted(ready.folder.rglob("*"))
    with pytest.raises(terms.RefusedError, match="choose another --output"):
        contents.release(ready.offer(), ready.folder / inside, overwrite=True)
    assert sorted(ready.folder.rglob("*")) == before


def test_a_release_can_be_released_again(ready: Ready) -> None:
    """With nothing of the first one's proof left over."""
    again = terms.offer(ready.release, [ready.release], licence_ok=True)
    assert again.refusals == ()
    made = contents.release(again, ready.folder / "again")
    assert (made.path / "SHA256SUMS").read_bytes() == (ready.release / "SHA256SUMS").read_bytes()


def test_a_link_in_the_bundle_is_not_followed(ready: Ready) -> None:
    secret = ready.folder / "secret"
    secret.write_text((ready.bundle / "README.md").read_text())
    (ready.bundle / "README.md").unlink()
    (ready.bundle / "README.md").symlink_to(secret)
    with pytest.raises(terms.RefusedError, match=r"README\.md is a link"):
        contents.release(ready.offer(), ready.folder / "new")
    assert not (ready.folder / "new").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no hash", "is no hash and name"),
        (f"{'0' * 64}  ../x", "leads out of the folder"),
        (f"{'0' * 64}  /etc/passwd", "leads out of the folder"),
        (f"{'0' * 64}  a\n{'0' * 64}  a", "names 'a' twice"),
        ("  a", "is no hash and name"),
    ],
)
def test_sums_that_cannot_be_meant(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(line + "\n")
    with pytest.raises(BundleError, match=words):
        bundles.read_sums(tmp_path)
    with pytest.raises(BundleError, match="is no samevoice release"):
        bundles.read_sums(tmp_path / "nowhere")
