"""Tasks in this process, in others, and on a cluster: the same answers whatever happens to some."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_job import Odd, Words

from samevoice.errors import SamevoiceError
from samevoice.workers.engine import Done, Engine, InTurn, WorkerError, portable, unwatched
from samevoice.workers.processes import Processes

ENGINES: tuple[Engine, ...] = (InTurn(), Processes(2))


@pytest.fixture(autouse=True)
def _children_find_made_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def ran(engine: Engine, job: Words, words: list[str]) -> dict[str, Done]:
    found = list(engine.run(job, iter(words), unwatched))
    assert sorted(one.at for one in found) == list(range(len(words)))
    return {words[one.at]: one for one in found}


@pytest.mark.parametrize("engine", ENGINES, ids=lambda one: type(one).__name__)
def test_every_task_has_one_answer(engine: Engine, tmp_path: Path) -> None:
    job = Words(tmp_path)
    found = ran(engine, job, ["a", "bad", "b", "odd", "c", "d", "e"])
    assert {word: one.value[0] for word, one in found.items() if one.value} == {
        word: word.upper() for word in "abcde"
    }
    assert isinstance(found["bad"].error, SamevoiceError)
    assert str(found["bad"].error) == "this one is bad"
    assert str(found["odd"].error) == "one and two"
    assert len(list(tmp_path.iterdir())) == 7


@pytest.mark.parametrize("engine", ENGINES, ids=lambda one: type(one).__name__)
def test_what_is_wrong_with_all_tasks_is_said_once(engine: Engine, tmp_path: Path) -> None:
    job = Words(tmp_path, broken="the bundle is damaged")
    with pytest.raises(SamevoiceError, match="the bundle is damaged"):
        ran(engine, job, ["a", "b", "c"])


def test_nothing_to_do_is_done(tmp_path: Path) -> None:
    assert ran(Processes(2), Words(tmp_path), []) == {}


def test_a_worker_that_is_killed_takes_only_its_task_along(tmp_path: Path) -> None:
    job = Words(tmp_path)
    found = ran(Processes(2), job, ["a", "deadly", "b", "once", "c"])
    said = str(found["deadly"].error)
    assert isinstance(found["deadly"].error, WorkerError)
    assert "was killed (SIGKILL) 2 times" in said
    assert {word for word, one in found.items() if not one.error} == {"a", "b", "once", "c"}
    assert [len(job.tries(word)) for word in ("deadly", "once", "a")] == [2, 2, 1]


def test_both_work_each_with_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = ran(Processes(2, threads=3), Words(tmp_path), ["slow"] * 4 + ["a"])
    assert found["a"].value == ("A", "3")
    assert "OMP_NUM_THREADS" not in os.environ
    assert len({path.name.rpartition("-")[2] for path in tmp_path.glob("slow-*")}) == 2


def test_tasks_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    """A list of all would have to be held, with all that each knows of what is there."""
    given: list[int] = []

    def tasks() -> Iterator[str]:
        for k in range(20):
            given.append(k)
            yield "a"

    answers = Processes(2).run(Words(tmp_path), tasks(), unwatched)
    next(answers)
    assert len(given) <= 4
    assert len(list(answers)) == 19


@pytest.mark.parametrize("error", [ValueError("x"), SamevoiceError("y"), Odd("a", "b")])
def test_an_error_comes_through_with_what_it_says(error: Exception) -> None:
    again: Any = pickle.loads(pickle.dumps(portable(error)))
    assert str(again) == str(error)
    assert isinstance(again, SamevoiceError) == isinstance(error, SamevoiceError)
