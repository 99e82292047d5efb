"""What is measured: all contenders compute the same, and a process tells its own memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samevoice.bench import engines, jobs, parts
from samevoice.bench.workers import Contender, once_each
from samevoice.machine import peak_memory
from samevoice.models.layers import lstm

pytestmark = pytest.mark.long
of_linux = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="only Linux tells it of the program alone"
)


@pytest.mark.parametrize("network", parts.NETWORKS)
def test_contenders_compute_the_same(
    network: str,
    references: dict[str, Path],
    reference_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = parts.NETWORKS[network]
    bundle, source = str(reference_bundle / part), str(references["full"])
    truth = jobs.torch_network(source, part, network, 2)()["some"]
    assert len(truth) == jobs.SHOWN
    assert np.ptp(truth) > 1e-3
    others = [jobs.mlx_network(bundle, network, 2)()]
    others.append(jobs.mlx_network(bundle, network, 2, plain=True)())
    if network == "voices":
        others.append(jobs.torch_network(source, part, network, 2, passes=3)())
    for other in others:
        np.testing.assert_allclose(other["some"], truth, atol=2e-5)


@pytest.mark.parametrize("network", ["segmentation", "voices"])
def test_engines_compute_the_same(
    network: str, references: dict[str, Path], tmp_path: Path
) -> None:
    """Also for a batch of another size than the one that was exported."""
    for name in engines.NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed: {engines.EXTRA}")
    source, part, path = str(references["full"]), parts.NETWORKS[network], str(tmp_path / "x.onnx")
    jobs.export(source, part, network, path)()
    truth = jobs.torch_network(source, part, network, 3)()["some"]
    for engine in engines.ENGINES.values():
        found = jobs.engine_network(engine, path, network, 3)()["some"]
        np.testing.assert_allclose(found, truth, atol=2e-5)


def test_plain_is_another_form(monkeypatch: pytest.MonkeyPatch, reference_bundle: Path) -> None:
    taken: list[int] = []
    own = lstm.on_host

    def counted(*given: Any) -> Any:
        taken.append(1)
        return own(*given)

    monkeypatch.setattr(lstm, "on_host", counted)
    bundle = str(reference_bundle / "segmentation")
    for plain, layers in ((True, 0), (False, 4), (True, 0)):
        taken.clear()
        jobs.mlx_network(bundle, "lstm", 1, plain=plain)()
        assert len(taken) == layers


def test_masks_of_the_speakers_share_the_chunk() -> None:
    masks = jobs._masks(2)
    assert masks.shape == (2, 3, 589)
    assert (masks.sum(axis=1) == 1).all()


@of_linux
def test_a_process_tells_its_own_memory_and_not_its_parent_s() -> None:
    """ru_maxrss of a child begins with what its parent held: a gigabyte here."""
    code = (
        "import subprocess, sys; held = bytearray(10**9); held[::4096] = b'x' * len(held[::4096]);"
        "subprocess.run([sys.executable, '-c', 'from samevoice.machine import peak_memory;"
        "print(peak_memory())'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5e6 < float(said.stdout) < 5e8


@of_linux
def test_the_memory_of_processes_beside_it_counts() -> None:
    before = peak_memory()
    held = "held = bytearray(10**8); held[::4096] = b'x' * len(held[::4096]); print(flush=True)"
    command = [sys.executable, "-c", f"{held}; input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as beside:
        assert beside.stdout
        beside.stdout.readline()
        assert peak_memory() - before > 9e7
        beside.communicate(b"\n")


def test_what_libraries_print_does_not_mix_with_the_answers(
    tmp_path: Path, narrow_bundle: Path
) -> None:
    options = {"bundle": str(narrow_bundle), "chunks": 40}
    words = json.dumps({"job": "behind", "options": options})
    code = (
        "import sys; from samevoice.bench import jobs; sys.argv = ['jobs', sys.stdin.readline()];"
        "behind = jobs.JOBS['behind'];"
        "jobs.JOBS = {'behind': lambda **x: (print('a library speaks'), behind(**x))[1]};"
        "jobs.main()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        input=f"{words}\n\n",
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[dict[str, Any]] = [json.loads(line) for line in said.stdout.splitlines()]
    assert answers[0] == {"ready": True}
    assert answers[1]["found"]["voices"] == 60
    assert "a library speaks" in said.stderr


def test_start_up_ends_where_the_audio_would_be_read(narrow_bundle: Path, tmp_path: Path) -> None:
    """The recording is none: whoever read it would fail."""
    import wave

    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
    options = {"bundle": str(narrow_bundle), "audio": str(tmp_path / "empty.wav")}
    found = once_each([Contender("samevoice", "until_audio", options)], 1)["samevoice"]
    assert len(found.seconds) == 1
    assert found.found == {}
