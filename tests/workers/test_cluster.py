"""Ray's machines, all of them this one: what dies in the middle loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_job import Words

from samevoice.errors import SamevoiceError
from samevoice.workers import cluster as clusters
from samevoice.workers.engine import WorkerError, unwatched

pytestmark = pytest.mark.long

NODE = {"memory": 4 * 10**9, "object_store_memory": 10**8}


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster whose first machine does no work, so that the others can die."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
        yield found
        found.shutdown()


def test_a_machine_that_dies_loses_nothing(machines: Any, tmp_path: Path) -> None:
    nodes = [machines.add_node(num_cpus=1, **NODE) for _ in range(2)]
    machines.wait_for_nodes()
    job = Words(tmp_path)
    words = ["slow"] * 12 + ["bad", "deadly"]
    engine, found, killed = clusters.Cluster(machines.address), [], False
    for done in engine.run(job, iter(words), unwatched):
        found.append(done)
        if len(found) == 3:
            machines.remove_node(nodes[1], allow_graceful=False)
            killed = True
    assert killed
    assert sorted(one.at for one in found) == list(range(len(words)))
    answers = {one.at: one for one in found}
    assert [answers[k].value[0] for k in range(12)] == ["SLOW"] * 12
    assert str(answers[12].error) == "this one is bad"
    assert isinstance(answers[13].error, WorkerError)
    assert "its worker died 3 times (WorkerCrashedError)" in str(answers[13].error)
    assert len(job.tries("deadly")) == 3
    assert len(job.tries("bad")) == 1  # an error is an answer


def test_what_is_wrong_with_all_tasks_is_said_once(machines: Any, tmp_path: Path) -> None:
    machines.add_node(num_cpus=1, **NODE)
    job = Words(tmp_path, broken="the bundle is damaged")
    with pytest.raises(SamevoiceError, match="the bundle is damaged"):
        list(clusters.Cluster(machines.address).run(job, ["a", "b"], unwatched))
