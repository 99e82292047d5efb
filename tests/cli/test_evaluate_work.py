"""How samevoice evaluate does its work: in processes, in shards, on a cluster, in another form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_corpus import PIECES
from typed import Run

pytestmark = pytest.mark.long


def said(folder: str) -> dict[str, Any]:
    """evaluation.json without what depends on the machine's mood."""
    document: dict[str, Any] = json.loads(Path(folder, "evaluation.json").read_text())
    sides = [row[x] for row in document["recordings"] for x in "AB" if x in row]
    for one in [*document["systems"], *sides]:
        for name in ("real_time_factor", "seconds", "peak_memory"):
            one.pop(name, None)
    return document


def lines(text: str) -> list[str]:
    """Without the warning of weights that are made up."""
    return [line for line in text.splitlines() if not line.startswith("warning  ")]


def turns(folder: str, system: str = "full") -> dict[str, str]:
    return {path.name: path.read_text() for path in Path(folder, system).glob("*.rttm")}


def test_processes_give_what_one_gives(evaluate: Run, ran: list[str]) -> None:
    evaluate("meetings --model full --output one")
    assert len(ran) == 3
    shown = evaluate("meetings --model full --workers 2 --output two")
    assert len(ran) == 3  # the others ran elsewhere
    assert said("two") == said("one")
    assert turns("two") == turns("one")
    assert sorted(line.split()[0] for line in lines(shown.err)) == ["1/3", "2/3", "3/3"]
    assert {line.split()[1] for line in lines(shown.err)} == set(PIECES)

    # What one process left, others go on from, and the other way round.
    Path("one/full/two.json").unlink()
    evaluate("meetings --model full --workers 2 --output one")
    assert said("one") == said("two")
    evaluate("meetings --model full --output two")
    assert len(ran) == 3


def test_what_fails_in_a_process_is_told_as_here(evaluate: Run) -> None:
    Path("meetings/three.wav").write_bytes(b"RIFF")
    here = evaluate("meetings --model full --output one", 2).err
    there = evaluate("meetings --model full --workers 2 --output two", 2).err
    assert said("one")["failed"] == said("two")["failed"]
    assert here.splitlines()[-1] == there.splitlines()[-1]
    shutil.rmtree("broken", ignore_errors=True)
    shutil.copytree("full", "broken")
    weights = next(Path("broken/embedding").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    answer = evaluate("meetings --model broken --workers 2 --output three", 2)
    assert "broken/embedding" in answer.err
    assert len(lines(answer.err)) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--workers 0", "--workers is 0: it must be from 1 to 512"),
        ("--workers 2 --cluster local", "--workers does not go with --cluster"),
        ("--shard 4/3", "--shard '4/3' is not K/N, such as 3/8"),
        ("--shard 1", "is not K/N"),
        ("--shard 1/3 --merge", "--shard does not go with --merge"),
        ("--merge", "holds no result of this corpus: run its shards first"),
        ("--against float16", "float16 is made from the source of full: name it with --source"),
        ("--against pyannote --source nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(evaluate: Run, words: str, why: str) -> None:
    answer = evaluate(f"meetings --model full {words}", 2)
    assert why in answer.err
    assert len(lines(answer.err)) == 1
    assert not Path("meetings-evaluation").exists()


# Shards -------------------------------------------------------------------------------------------


def test_shards_are_merged_to_what_one_run_gives(evaluate: Run, ran: list[str]) -> None:
    evaluate("meetings --model full --against fast --output whole")
    ran.clear()
    answer = evaluate("meetings --model full --against fast --output parts --shard 1/2")
    assert "2 recordings done" in answer.out
    assert sorted(ran) == ["one", "one", "two", "two"]
    assert not Path("parts/evaluation.json").exists()

    missing = evaluate("meetings --model full --against fast --output parts --merge", 2)
    assert "three: full has no result of it" in missing.err
    assert "run its shard" in missing.err
    assert [one["uri"] for one in said("parts")["recordings"]] == ["one", "two"]

    evaluate("meetings --model full --against fast --output parts --shard 2/2")
    # Where they are merged there may be no bundle and no recordings that can be read.
    ran.clear()
    Path("full").unlink()
    for path in Path("meetings").glob("*.wav"):
        path.write_bytes(b"")
    evaluate("meetings --model full --against fast --output parts --merge")
    assert said("parts") == said("whole")
    assert ran == []


def test_results_of_another_making_are_not_merged(evaluate: Run) -> None:
    for shard in ("1/3", "2/3", "3/3"):
        evaluate(f"meetings --model full --output parts --shard {shard}")
    about = Path("parts/full/two.json")
    document = json.loads(about.read_text())
    document["made_of"]["mlx"] = "0.1"
    about.write_text(json.dumps(document))
    answer = evaluate("meetings --model full --output parts --merge", 2)
    assert "two: full has no result of it that was made as the others" in answer.err


SBATCH = """#!/bin/sh
# sbatch [--dependency=...] --parsable FILE, or --wrap COMMAND: all at once, and here.
[ "${1#--dependency}" = "$1" ] || shift
if [ "$1" = --wrap ]; then exec sh -c "$2"; fi
last=$(sed -n 's/^#SBATCH --array=1-//p' "$2")
for k in $(seq "$last"); do
    SLURM_ARRAY_TASK_ID=$k SLURM_ARRAY_TASK_COUNT=$last sh "$2" >&2 || exit 1
done
echo 17
"""


def test_the_script_for_slurm_does_it(
    evaluate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate("meetings --model full --output whole")
    page = (Path(__file__).parents[2] / "docs" / "many.md").read_text()
    shard, run = (block.partition("\n")[2] for block in page.split("```")[5:9:2])
    assert "--array=1-8" in shard
    Path("shard.sh").write_text(shard.replace("1-8", "1-2"))
    Path("bin").mkdir()
    Path("bin/sbatch").write_text(SBATCH)
    Path("bin/sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"bin:{Path(sys.executable).parent}:{os.environ['PATH']}")
    run = run.replace("/data/results", "parts").replace("/data/", "")
    subprocess.run(["sh", "-e", "-c", run], check=True, capture_output=True)
    assert said("parts") == said("whole")


def test_a_shard_may_be_empty(evaluate: Run) -> None:
    assert "0 recordings done" in evaluate("meetings --model full --shard 5/9").out


# A cluster ----------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of two machines that are both this one."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    node = {"num_cpus": 1, "memory": 4 * 10**9, "object_store_memory": 10**8}
    found = Cluster(initialize_head=True, head_node_args=node)
    found.add_node(**node)
    yield found.address
    found.shutdown()


def test_a_cluster_gives_what_one_process_gives(
    evaluate: Run, ran: list[str], cluster: str
) -> None:
    evaluate("meetings --model full --output one")
    Path("meetings/three.wav").write_bytes(b"RIFF")
    answer = evaluate(f"meetings --model full --cluster {cluster} --output two", 2)
    assert len(ran) == 3
    assert {name: text for name, text in turns("one").items() if name != "three.rttm"} == turns(
        "two"
    )
    assert "1 of 3 recordings failed: three" in answer.err.splitlines()[-1]


def test_a_cluster_that_does_not_answer_is_one_line(evaluate: Run) -> None:
    pytest.importorskip("ray")
    answer = evaluate("meetings --model full --cluster 127.0.0.1:9", 2)
    assert "no Ray cluster answers at 127.0.0.1:9" in answer.err
    assert len(lines(answer.err)) == 1


# Another form of A --------------------------------------------------------------------------------


def test_less_precision(
    evaluate: Run, narrow: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    shutil.copytree(narrow.parent / "source", source)
    answer = evaluate(f"meetings --model full --against bfloat16 --source {source} --output out")
    a, b = said("out")["systems"]
    assert b["name"] == "full-bfloat16"
    assert b["made_of"]["fingerprint"] != a["made_of"]["fingerprint"]
    assert "converting" in answer.err
    (bundle,) = (tmp_path / "cache" / "bundles").rglob("source-*bfloat16*")
    assert json.loads((bundle / "config.json").read_text())["dtype"] == "bfloat16"

    config = source / "config.yaml"
    config.write_text(config.read_text() + "# changed\n")
    answer = evaluate(f"meetings --model full --source {source} --output x --against float16", 2)
    assert "was made from another" in answer.err


def test_the_original(
    evaluate: Run, reference_bundle: Path, references: dict[str, Path], pyannote: Any
) -> None:
    """pyannote's own pipeline from the same files; weights that mean nothing do for the same."""
    del pyannote
    for path in Path("meetings").glob("t*"):
        path.unlink()
    Path("meetings/all.uem").write_text("one 1 0 12\n")
    words = f"--model {reference_bundle} --source {references['full']} --output out"
    evaluate(f"meetings {words} --against pyannote")
    a, b = said("out")["systems"]
    assert b["made_of"]["kind"] == "original"
    assert {"torch", "pyannote.audio", "fingerprint"} < set(b["made_of"])
    assert b["der"] == a["der"]
    name = a["name"]
    assert turns("out", f"{name}-pyannote") == turns("out", name)
    evaluate(f"meetings {words} --against pyannote --merge")
