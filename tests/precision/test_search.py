"""The search on cases small enough to do by hand."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.precision.run import mixture
from samevoice.precision.search import Choice, after, furthest, moves, price, worthwhile

WHOLE = Choice("float32", 400, 0.0)


def test_what_costs_more_for_less_is_left_out() -> None:
    """float16 saves 200 for 1; bfloat16 the same for 9; 8 bits save 100 more for 1, 4 for 8."""
    choices = [
        WHOLE,
        Choice("bfloat16", 200, 9.0),
        Choice("float16", 200, 1.0),
        Choice("8", 100, 2.0),
        Choice("6", 80, 9.9),  # 0.395 a byte; the next one is cheaper from 8 bits on
        Choice("4", 60, 10.0),
    ]
    assert [one.type for one in worthwhile(choices)] == ["float32", "float16", "8", "4"]


def test_a_type_that_is_smaller_and_better_is_taken_at_once() -> None:
    choices = [WHOLE, Choice("float16", 200, 3.0), Choice("8", 100, 1.0)]
    assert [one.type for one in worthwhile(choices)] == ["float32", "8"]


def test_the_cheapest_byte_first_whatever_its_layer() -> None:
    found = moves(
        {
            "a": [WHOLE, Choice("8", 200, 2.0), Choice("4", 100, 9.0)],  # 0.01, then 0.07 a byte
            "b": [WHOLE, Choice("8", 200, 4.0), Choice("4", 100, 7.0)],  # 0.02, then 0.03
        }
    )
    assert [(one.layer, one.type) for one in found] == [
        ("a", "8"),
        ("b", "8"),
        ("b", "4"),
        ("a", "4"),
    ]
    assert [one.price for one in found] == pytest.approx([0.01, 0.02, 0.03, 0.07])
    assert after(found[:3]) == {"a": "8", "b": "4"}
    assert after(found) == {"a": "4", "b": "4"}


@pytest.mark.parametrize("holds", range(8))
def test_halving_finds_the_last_that_holds(holds: int) -> None:
    asked: list[int] = []

    def keeps(count: int) -> bool:
        asked.append(count)
        return count <= holds

    assert furthest(7, keeps) == holds
    assert len(asked) == 3
    assert 0 not in asked


sizes = st.integers(1, 500)
damages = st.floats(0.0, 10.0)
layer = st.lists(st.tuples(sizes, damages), max_size=4)


@given(st.dictionaries(st.sampled_from("abc"), layer, min_size=1))
def test_no_mixture_as_small_as_a_greedy_one_does_less_damage(
    drawn: dict[str, list[tuple[int, float]]],
) -> None:
    """Every prefix of the moves is the best mixture of its size or smaller, all others tried."""
    layers = {
        name: [
            Choice("float32", 501, 0.0),
            *(Choice(str(at), *one) for at, one in enumerate(choices)),
        ]
        for name, choices in drawn.items()
    }
    by_type = {name: {one.type: one for one in choices} for name, choices in layers.items()}
    every = [
        (sum(x.nbytes for x in mixture), sum(x.damage for x in mixture))
        for mixture in product(*layers.values())
    ]
    path = moves(layers)
    for count in range(len(path) + 1):
        types = after(path[:count])
        mixture = [known[types.get(name, "float32")] for name, known in by_type.items()]
        size, damage = sum(x.nbytes for x in mixture), sum(x.damage for x in mixture)
        assert all(other[1] >= damage - 1e-6 for other in every if other[0] <= size)


def test_a_price_is_damage_for_each_byte() -> None:
    assert price(WHOLE, Choice("8", 100, 3.0)) == pytest.approx(0.01)


def test_the_recipe_of_a_mixture_names_only_what_is_unusual() -> None:
    found = mixture({"a": "8", "b": "4", "c": "8", "d": "float32"})
    assert (found.default, dict(found.layers)) == ("8", {"b": "4", "d": "float32"})
    assert [found.type_of(x) for x in "abcd"] == ["8", "4", "8", "float32"]
