"""What was tampered with is refused by name, also where the forger made the sums anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from made_release import Ready, edit, rejudged, sum_again, write_gallery

from samevoice.converters import convert
from samevoice.errors import BundleError
from samevoice.parity import result as results
from samevoice.parity.identity import fingerprint
from samevoice.release.verify import CHECKS, verify

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchaudio", "pyannote", "lightning", "matplotlib", "jinja2"):
    sys.modules[name] = None  # as if it were not installed
from pathlib import Path
from samevoice.release.verify import verify
for one in verify(Path(sys.argv[1])):
    print(one.name, one.passed, one.says)
"""


def outcomes(folder: Path, **more: Any) -> dict[str, str]:
    """Check -> "" or what is wrong; the replay last."""
    return {one.name: "" if one.passed else one.says for one in verify(folder, **more)}


def faults(folder: Path, **more: Any) -> dict[str, str]:
    return {name: says for name, says in outcomes(folder, **more).items() if says}


def test_a_release_passes_every_check(made: Ready) -> None:
    assert outcomes(made.release) == dict.fromkeys((check.name for check in CHECKS), "")


def test_it_needs_neither_torch_nor_what_draws_reports(made: Ready) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(made.release)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(CHECKS)
    assert all(line.split()[1] == "True" for line in lines), done.stdout
    assert "by name and shape, as pyannote.audio is not installed" in done.stdout
    assert "noise ratio at most" in lines[-1]


def flip(path: Path, at: int = -5) -> None:
    found = bytearray(path.read_bytes())
    found[at] ^= 1
    path.write_bytes(found)


def flip_weights(folder: Path) -> None:
    flip(folder / "model.safetensors")


def flip_config(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    assert '"stride": 10' in text
    (folder / "config.json").write_text(text.replace('"stride": 10', '"stride": 11'))


def flip_figure(folder: Path) -> None:
    path = folder / "parity" / "result.json"
    text = path.read_text()
    at = text.index('"max_abs": ') + len('"max_abs": ')
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def flip_judged_figure(folder: Path) -> None:
    """The largest noise ratio made small: its errors say otherwise."""
    edit(
        folder / "parity" / "result.json",
        lambda found: found["taps"][0].update(noise_ratio=0.5),
    )


def claim_passed(folder: Path) -> None:
    path = folder / "parity" / "result.json"
    results.write(path, rejudged(results.read(path), "noise_ratio=0.001"))
    edit(path, lambda found: found.update(passed=True))


def red(folder: Path) -> None:
    path = folder / "parity" / "result.json"
    results.write(path, rejudged(results.read(path), "noise_ratio=0.001"))


def loosen(folder: Path) -> None:
    path = folder / "parity" / "result.json"
    results.write(path, rejudged(results.read(path), "noise_ratio=30"))


def fewer_inputs(folder: Path) -> None:
    path = folder / "parity" / "result.json"
    one = results.read(path)
    gone = one.inputs[3].name
    taps = tuple(tap for tap in one.taps if tap.input != gone)
    kept = (*one.inputs[:3], *one.inputs[4:])
    results.write(path, replace(one, inputs=kept, taps=taps))


def swap_files(folder: Path) -> None:
    one, other = (folder / "parity" / "golden" / f"00{k}.safetensors" for k in (2, 3))
    aside = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(aside)


def link_out(folder: Path) -> None:
    secret = folder.parent / "outside.json"
    secret.write_bytes((folder / "config.json").read_bytes())
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(secret)


def link_folder_out(folder: Path) -> None:
    (folder / "parity" / "golden").rename(folder.parent / "elsewhere")
    (folder / "parity" / "golden").symlink_to(folder.parent / "elsewhere")


def index_out(folder: Path) -> None:
    edit(
        folder / "model.safetensors.index.json",
        lambda found: found["weight_map"].update(
            dict.fromkeys(found["weight_map"], "../bundle/model.safetensors")
        ),
    )


def golden_out(folder: Path) -> None:
    edit(
        folder / "parity" / "golden" / "golden.json",
        lambda found: found["examples"][0].update(file="../../../parity/golden/000.safetensors"),
    )


def index_apart(folder: Path) -> None:
    """The weights in a file that no sum covers."""
    (folder / "model.safetensors").rename(folder / ".gitattributes")
    edit(
        folder / "model.safetensors.index.json",
        lambda found: found["weight_map"].update(
            dict.fromkeys(found["weight_map"], ".gitattributes")
        ),
    )


def link_inside(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / "parity" / "golden").rename(folder / ".cache" / "golden")
    (folder / "parity" / "golden").symlink_to("../.cache/golden")


def sums_elsewhere(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    (folder / "SHA256SUMS").symlink_to("/dev/zero")


def pipe(folder: Path) -> None:
    """Whoever opens it waits for ever."""
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def endless_sums(folder: Path) -> None:
    with open(folder / "SHA256SUMS", "ab") as file:
        file.truncate(17 << 20)


@pytest.mark.parametrize("other", ["\f", "\v", "\x1c", "\x85", "\u2028", "\r", "\r\n"])
def test_only_line_feeds_end_a_line_of_the_sums(ready: Ready, other: str) -> None:
    """sha256sum reads such a file otherwise: one of the two would check less than it says."""
    sums = ready.release / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes().replace(b"\n", other.encode(), 2))
    found = faults(ready.release)
    assert "SHA256SUMS has a line that is no hash and name" in found["files"]


def add_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")


def fewer_taps(folder: Path) -> None:
    path = folder / "parity" / "result.json"
    one = results.read(path)
    results.write(path, replace(one, taps=tuple(tap for tap in one.taps if tap.output)))


def louder_reference(folder: Path) -> None:
    """A PyTorch that errs more makes any port look right."""
    from safetensors.numpy import load_file, save_file

    path = folder / "parity" / "golden" / "000.safetensors"
    arrays = load_file(path)
    arrays["plain/output"] += np.float32(1e-4)
    save_file(arrays, path)


def one_finding(folder: Path) -> None:
    edit(
        folder / "parity" / "gallery.json",
        lambda found: {**found, "findings": found["findings"][:1]},
    )


def other_record(folder: Path) -> None:
    edit(folder / "parity" / "release.json", lambda found: found.update(results={"": "0" * 64}))


def add_file(folder: Path) -> None:
    (folder / "setup.py").write_text("print('hello')")


def remove_file(folder: Path) -> None:
    (folder / "parity" / "report.html").unlink()


def red_gallery(folder: Path) -> None:
    edit(folder / "parity" / "gallery.json", lambda x: x["findings"][0].update(found=""))


def other_gallery(folder: Path) -> None:
    write_gallery(folder / "parity" / "gallery.json", "segmentation", architecture="SSeRiouSS")


def edit_card(folder: Path) -> None:
    (folder / "README.md").write_text("trust me")


@pytest.mark.parametrize(
    ("tamper", "check", "words"),
    [
        (flip_weights, "sha256", "model.safetensors is not what was released"),
        (flip_config, "sha256", "config.json is not what was released"),
        (flip_figure, "sha256", "parity/result.json is not what was released"),
        (claim_passed, "sha256", "parity/result.json is not what was released"),
        (swap_files, "sha256", "parity/golden/002.safetensors is not what was released"),
        (edit_card, "sha256", "README.md is not what was released"),
        (link_out, "files", "config.json is a link that leads out of the folder"),
        (link_folder_out, "files", "parity/golden is a link that leads out of the folder"),
        (index_out, "files", "names '../bundle/model.safetensors', which leads out"),
        (add_file, "files", "setup.py was added"),
        (remove_file, "files", "parity/report.html is missing"),
        (sums_elsewhere, "files", "SHA256SUMS is a link that leads out of the folder"),
        (pipe, "files", "config.json is neither a file nor a folder"),
        (endless_sums, "files", "SHA256SUMS is larger than 16 MiB"),
    ],
)
def test_tampering_is_refused_by_name(
    ready: Ready, tamper: Callable[[Path], None], check: str, words: str
) -> None:
    tamper(ready.release)
    found = faults(ready.release)
    assert next(iter(found)) == check
    assert words in found[check]


@pytest.mark.parametrize(
    ("tamper", "check", "words"),
    [
        (flip_weights, "weights", "parity/result.json is of another bundle than these weights"),
        (flip_config, "weights", "parity/result.json is of another bundle than these weights"),
        (flip_judged_figure, "verdict", "run it again"),
        (claim_passed, "verdict", "passed is True, but the figures say False"),
        (red, "verdict", "parity/result.json is red: "),
        (loosen, "limits", "loosened noise_ratio at every tap: 30 instead of 3"),
        (fewer_inputs, "inputs", "lacks 1 default inputs, first 'silence'"),
        (swap_files, "replay", "are not those saved"),
        (golden_out, "replay", "which lies outside of it"),
        (louder_reference, "replay", "are not those that parity/result.json was made on"),
        (fewer_taps, "inputs", "taps, first sincnet.wav_norm (free, sample)"),
        (index_apart, "files", "names '.gitattributes', which is no shard of the release"),
        (link_inside, "files", "parity/golden is a link: a release holds files alone"),
        (add_pickle, "files", "pytorch_model.bin is no file that a release has"),
        (other_record, "weights", "parity/release.json is of other weights"),
        (one_finding, "gallery", "bugs, first 'linear.1: the matrix not transposed'"),
        (link_out, "files", "config.json is a link that leads out of the folder"),
        (link_folder_out, "files", "parity/golden is a link that leads out of the folder"),
        (index_out, "files", "names '../bundle/model.safetensors', which leads out"),
        (red_gallery, "gallery", "was not found where it sits"),
        (other_gallery, "gallery", "holds no bug of PyanNet"),
    ],
)
def test_and_so_is_a_forger_who_made_all_hashes_anew(
    ready: Ready, tamper: Callable[[Path], None], check: str, words: str
) -> None:
    tamper(ready.release)
    sum_again(ready.release)
    found = faults(ready.release)
    assert next(iter(found)) == check
    assert words in found[check]


def rebind(folder: Path) -> None:
    """The result, and the record, made to name what lies there now."""
    sha256 = fingerprint(folder)
    edit(
        folder / "parity" / "result.json",
        lambda found: found["bundle"].update(sha256=sha256),
    )
    edit(folder / "parity" / "release.json", lambda found: found.update(results={"": sha256}))
    sum_again(folder)


def test_a_result_from_another_bundle(ready: Ready, pyannote: Any) -> None:
    """The same network with other weights, under a result that was green for the first."""
    del pyannote
    source = made_up.save(made_up.pyannet(layers=1, seed=9), ready.folder / "y.ckpt")
    convert.convert(source, ready.folder / "other")
    for name in ("model.safetensors", "config.json", "model.safetensors.index.json"):
        (ready.release / name).write_bytes((ready.folder / "other" / name).read_bytes())
    assert faults(ready.release)["sha256"].startswith("model.safetensors is not")
    sum_again(ready.release)
    found = faults(ready.release)
    assert found["weights"] == "parity/result.json is of another bundle than these weights"
    assert found["replay"] == "not run: something else was found first"
    rebind(ready.release)
    found = faults(ready.release)
    assert list(found) == ["replay"]
    assert found["replay"].startswith("the segmentation diverges on this machine: output")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["lstm"].update(num_layers=10**6),
        lambda config: config["linear"].update(hidden_size=0),
        lambda config: config["linear"].update(hidden_size=10**12),
        lambda config: config.update(lstm=None),
        lambda config: config.update(sincnet=[]),
        lambda config: config.update(dtype=["float32"]),
    ],
)
def test_a_config_that_makes_no_sense_is_one_line(
    ready: Ready, change: Callable[[Any], None]
) -> None:
    edit(ready.release / "config.json", change)
    rebind(ready.release)
    found = faults(ready.release)
    assert found
    assert all("\n" not in says for says in found.values())


def test_weights_that_diverge_here_are_found_by_the_replay(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device that computes otherwise: all hashes are right, the outputs are not."""
    from samevoice.parity.candidate import Candidate

    run = Candidate.try_run

    def off(self: Candidate, example: Any) -> tuple[dict[str, Any], str]:
        outputs, error = run(self, example)
        return {name: x + np.float32(0.01) for name, x in outputs.items()}, error

    monkeypatch.setattr(Candidate, "try_run", off)
    found = faults(ready.release)
    assert list(found) == ["replay"]
    assert "the segmentation diverges on this machine: output" in found["replay"]


def test_links_into_the_cache_are_the_hubs_own(made: Ready, tmp_path: Path) -> None:
    """A snapshot in the hub's cache is made of links into blobs/ beside it."""
    snapshot = tmp_path / "models--me--seg" / "snapshots" / "abc"
    blobs = tmp_path / "models--me--seg" / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(p for p in made.release.rglob("*") if p.is_file()):
        target = snapshot / path.relative_to(made.release)
        target.parent.mkdir(parents=True, exist_ok=True)
        (blobs / str(number)).write_bytes(path.read_bytes())
        os.symlink(blobs / str(number), target)
    (snapshot / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert faults(snapshot, root=snapshot.parents[1], replay=False) == {}
    assert "is a link that leads out" in faults(snapshot, replay=False)["files"]


def test_what_is_no_release_is_said_in_a_line(tmp_path: Path, made: Ready) -> None:
    for folder in (tmp_path, made.bundle):
        with pytest.raises(BundleError, match="has no SHA256SUMS: it is no samevoice release"):
            faults(folder)
