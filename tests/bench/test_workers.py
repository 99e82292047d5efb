"""Who runs when, and what becomes of a contender that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from samevoice.bench import workers
from samevoice.bench.workers import BenchError, Contender, Ran, commands, interleaved, once_each


class Pretended:
    """A worker that writes down what it was told; its n-th run takes n seconds."""

    told: list[str]

    def __init__(self, contender: Contender) -> None:
        self.who, self.count = contender.who, 0
        self.told.append(f"{self.who} begins")

    def run(self) -> Ran:
        self.count += 1
        self.told.append(self.who)
        return Ran(float(self.count), 0.5, 0.1 * len(self.told), {"stages": {"all": self.count}})

    def __enter__(self) -> Pretended:
        return self

    def __exit__(self, *_: object) -> None:
        self.told.append(f"{self.who} ends")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    Pretended.told = []
    monkeypatch.setattr(workers, "Worker", Pretended)
    return Pretended.told


def two() -> list[Contender]:
    return [Contender(who, "nothing", {}) for who in ("one", "other")]


def test_contenders_take_turns_and_the_first_round_does_not_count(told: list[str]) -> None:
    found = interleaved(two(), 2)
    begun = ["one begins", "other begins"]
    assert told == [*begun, *["one", "other"] * 3, "other ends", "one ends"]
    assert found["one"].seconds == (2.0, 3.0)
    assert found["other"].stages == {"all": 3}


def test_each_in_a_process_of_its_own(told: list[str]) -> None:
    found = once_each(two(), 2)
    rounds = ["one begins", "one", "one ends", "other begins", "other", "other ends"]
    assert told == rounds * 2
    ours = found["one"]
    assert ours.seconds == (1.0, 1.0)
    assert ours.peak_gb == pytest.approx(0.8)  # of the second run, the larger
    assert ours.found == {"stages": {"all": 1}}


def test_a_failing_contender_is_named_with_its_last_words() -> None:
    options: Mapping[str, Any] = {"bundle": "/nowhere", "network": "segmentation", "batch": 1}
    with pytest.raises(BenchError, match=r"samevoice: mlx_network failed: .*/nowhere"):
        interleaved([Contender("samevoice", "mlx_network", options)], 1)


def test_a_failing_command_is_named() -> None:
    with pytest.raises(BenchError, match=r"this ended with exit code 3: no luck"):
        commands({"this": ["-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"]}, 1)


def test_commands_are_timed_whole() -> None:
    found = commands({"short": ["-c", "pass"], "longer": ["-c", "sum(range(10**7))"]}, 1)
    assert [len(one.seconds) for one in found.values()] == [1, 1]
    assert found["longer"].processor[0] > found["short"].processor[0]
