"""samevoice diarize in a process of its own: streams, signals, imports, the real pipeline."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_audio import RATE, noise, recording
from made_pipeline import FAKE, left

from samevoice import cli
from samevoice.cli.diarizing import JOURNAL


def faked(*words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    (cwd / "full").mkdir(exist_ok=True)
    (cwd / "full" / "config.json").write_text("{}")
    command = [sys.executable, "-c", FAKE, "diarize", *words, "--model", "full"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, cwd=cwd, text=True, check=False, timeout=60, **pipes)


def test_ctrl_c_stops_cleanly(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    recording(tmp_path / "stop.wav")
    done = faked("a.wav", "stop.wav", "--output", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "samevoice: stopped\n")
    assert left(tmp_path / "out") == {"a.rttm", JOURNAL}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_that_is_full(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    recording(tmp_path / "b.wav")
    with open("/dev/full", "w") as full:
        done = faked("a.wav", "b.wav", cwd=tmp_path, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "samevoice: standard output cannot be written: No space left on device\n"


def test_standard_input_that_the_disk_has_no_room_for(tmp_path: Path) -> None:
    """The limit is on a file's size, so that the sentence on standard error still gets out."""
    sound = recording(tmp_path / "a.wav")
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    command = [sys.executable, "-c", small + FAKE, "diarize", "-", "--model", "full"]
    (tmp_path / "full").mkdir()
    with open(sound, "rb") as stdin:
        done = subprocess.run(
            command, cwd=tmp_path, stdin=stdin, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("samevoice: standard input cannot be kept in ")
    assert "File too large; name another folder in TMPDIR" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    read, write = os.pipe()
    os.close(read)
    try:
        done = faked("a.wav", cwd=tmp_path, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# Fails on the first connection, and tells at the end what was imported.
WATCH = """
import atexit, socket, sys

def refuse(*_, **__):
    sys.stderr.write("CONNECTED\\n")
    raise OSError("no connections here")

for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
HEAVY = {"torch", "torchaudio", "pyannote", "huggingface_hub", "matplotlib", "sklearn"}

def tell():
    print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules} & HEAVY),
          file=sys.stderr)

atexit.register(tell)
"""


def real(*words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    (cwd / "hook").mkdir(exist_ok=True)
    (cwd / "hook" / "sitecustomize.py").write_text(WATCH)
    settings = os.environ | {"PYTHONPATH": str(cwd / "hook"), "COLUMNS": "80"}
    command = [sys.executable, "-m", "samevoice", "diarize", *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, env=settings, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == code, done.stderr
    return done


def test_it_imports_neither_torch_nor_pyannote_and_opens_no_connection(
    narrow_bundle: Path, tmp_path: Path
) -> None:
    recording(tmp_path / "talk one.wav", noise(48_000, 2), 48_000)
    everything = "rttm,json,srt,vtt,html"
    words = ("talk one.wav", "--model", narrow_bundle, "--output", "out", "--format", everything)
    done = real(*words, "--plot", "out/a.svg", "--timing", cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "IMPORTED"
    assert "CONNECTED" not in done.stderr
    assert "means NOTHING" in done.stderr
    assert re.match(r"talk one\.wav  1\.0 s, \d+ speakers?, \d+ turns?, real-time", done.stdout)
    assert len(left(tmp_path / "out")) == 6
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


ODD = {
    "1 sample": noise(1),
    "399 samples": noise(399),
    "400 samples": noise(400),
    "159999 samples": noise(159_999),
    "160000 samples": noise(160_000),
    "160001 samples": noise(160_001),
    "silence": np.zeros(RATE, np.float32),
    "DC": np.full(RATE, 0.5, np.float32),
    "clipping": np.sign(noise(RATE)),
    "6 channels": noise(RATE, 6),
    "8 kHz": noise(8_000, 2),
    "48 kHz": noise(48_000),
}


def test_odd_recordings_all_have_a_result(
    narrow_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, samples in ODD.items():
        rate = int(name.split()[0]) * 1_000 if name.endswith("kHz") else RATE
        recording(tmp_path / "odd" / f"{name}.wav", samples, rate, subtype="FLOAT")
    words = [
        str(tmp_path / "odd"),
        "--model",
        str(narrow_bundle),
        "--output",
        str(tmp_path / "out"),
    ]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["diarize", *words, "--num-speakers", "5", "--format", "json"])
    said = capfd.readouterr()
    assert not stopped.value.code, said.err
    for name, samples in ODD.items():
        rate = int(name.split()[0]) * 1_000 if name.endswith("kHz") else RATE
        found = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert found["duration"] == pytest.approx(len(samples) / rate, abs=1e-3)
        assert len(found["speakers"]) <= 5


@pytest.mark.parametrize("kind", ["missing", "corrupt", "of another model"])
def test_bundles_that_are_none(narrow_bundle: Path, tmp_path: Path, kind: str) -> None:
    recording(tmp_path / "a.wav")
    model = tmp_path / "full"
    if kind == "of another model":
        model = narrow_bundle / "segmentation"
    if kind == "corrupt":
        shutil.copytree(narrow_bundle, model)
        weights = model / "embedding" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1_000])
    done = real("a.wav", "--model", model, "--output", "b.rttm", cwd=tmp_path, code=2)
    line, imported = done.stderr.splitlines()
    assert imported == "IMPORTED"
    assert line.startswith("samevoice: ")
    assert str(model) in line
    assert not (tmp_path / "b.rttm").exists()


def test_where_connections_are_made_the_test_would_see_them(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    code = "import socket, huggingface_hub; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CONNECTED" in done.stderr
    assert "IMPORTED huggingface_hub" in done.stderr
