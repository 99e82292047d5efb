"""The engine on small tables, and every way in which tensors and rules can fail to fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.converters.rules import (
    Drop,
    Identity,
    Plan,
    Rule,
    Table,
    Tensor,
    convert,
    each,
    invert,
    modules,
    plan,
    tally,
)
from samevoice.converters.transforms import ADD_BIASES, OIK_TO_OKI, SPLIT_QKV
from samevoice.errors import ConversionError

TABLE: Table = (
    Rule("conv.{i}.weight", "c.{i}.weight", OIK_TO_OKI, i=(0, 1)),
    Rule(("a", "b"), "sum", ADD_BIASES),
    Drop("{path}.num_batches_tracked", why="counts steps"),
    Identity("pool", why="passes on"),
)
SOURCES = {
    "conv.0.weight": np.arange(24.0).reshape(2, 3, 4),
    "conv.1.weight": np.arange(4.0).reshape(2, 2, 1),
    "a": np.array([1.0]),
    "b": np.array([2.0]),
    "bn.num_batches_tracked": np.array(9),
}
TARGETS = {"c.0.weight": (2, 4, 3), "c.1.weight": (2, 1, 2), "sum": (1,)}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: Tensor.of(array) for name, array in arrays.items()}


def planned(**changes: np.ndarray | None) -> Plan:
    """The plan with some sources changed, added, or (None) taken away."""
    arrays = {name.replace("__", "."): array for name, array in changes.items()}
    merged = {**SOURCES, **arrays}
    return plan(TABLE, tensors({k: v for k, v in merged.items() if v is not None}), TARGETS)


def test_every_source_meets_its_fate() -> None:
    rows = tally(planned(), lambda name: "float32")
    assert {row.source: row.fate for row in rows} == {
        "conv.0.weight": "used",
        "conv.1.weight": "used",
        "a": "derived",
        "b": "derived",
        "bn.num_batches_tracked": "dropped",
        "pool": "identity",
    }
    first = rows[0]
    assert (first.source_shape, first.target, first.target_shape) == (
        (2, 3, 4),
        "c.0.weight",
        (2, 4, 3),
    )
    assert [row.why for row in rows if row.fate == "dropped"] == ["counts steps"]


def test_values_follow_the_rules() -> None:
    made = dict(convert(planned()))
    assert made["c.0.weight"][0, 1].tolist() == [1, 5, 9]
    assert made["sum"].tolist() == [3]


def test_the_way_back_is_exact() -> None:
    laid = planned()
    made = {name: Tensor.of(array) for name, array in convert(laid)}
    kept = {name: Tensor.of(SOURCES[name]) for name in laid.kept}
    assert laid.kept == ("a", "b", "bn.num_batches_tracked")
    back = dict(invert(TABLE, made, kept))
    assert back.keys() == SOURCES.keys()
    assert all(back[name].tobytes() == SOURCES[name].tobytes() for name in SOURCES)


def test_a_tensor_that_no_rule_knows() -> None:
    with pytest.raises(
        ConversionError, match=r"2 tensors matched by no rule, first 'extra\.1': add a Rule"
    ):
        planned(extra__1=np.zeros(1), extra__2=np.zeros(1))


def test_a_missing_tensor() -> None:
    with pytest.raises(ConversionError, match=r"1 tensor missing .* first 'conv\.1\.weight'"):
        planned(conv__1__weight=None)


def test_a_wrong_shape_names_tensor_rule_and_both_shapes() -> None:
    with pytest.raises(ConversionError) as error:
        planned(conv__0__weight=np.zeros((2, 5, 4)))
    said = str(error.value)
    for part in (
        "'conv.0.weight' [2, 5, 4]",
        "'OIK -> OKI'",
        "[2, 4, 5]",
        "'c.0.weight'",
        "[2, 4, 3]",
    ):
        assert part in said


def test_a_shape_of_another_rank() -> None:
    with pytest.raises(ConversionError, match=r"'conv\.0\.weight' \[4\].*'OIK -> OKI' cannot take"):
        planned(conv__0__weight=np.zeros(4))


def test_biases_of_different_lengths() -> None:
    with pytest.raises(ConversionError, match=r"'a' \[2\], 'b' \[3\]"):
        planned(a=np.zeros(2), b=np.zeros(3))


def test_biases_that_would_broadcast() -> None:
    """(1,) and (3,) add up in numpy without a word."""
    table: Table = (Rule(("a", "b"), "sum", ADD_BIASES),)
    with pytest.raises(ConversionError, match=r"'a' \[1\], 'b' \[3\]"):
        plan(table, tensors({"a": np.zeros(1), "b": np.zeros(3)}), {"sum": (3,)})


def test_a_parameter_that_no_rule_fills() -> None:
    with pytest.raises(ConversionError, match=r"1 tensor of the MLX model filled by no rule"):
        plan(TABLE, tensors(SOURCES), {**TARGETS, "new": (1,)})


def test_a_rule_for_a_parameter_that_is_not_there() -> None:
    fewer = {name: shape for name, shape in TARGETS.items() if name != "sum"}
    with pytest.raises(ConversionError, match=r"unknown to the MLX model, first 'sum'"):
        plan(TABLE, tensors(SOURCES), fewer)


def test_two_rules_for_one_name() -> None:
    twice: Table = (*TABLE, Rule("a", "other"))
    with pytest.raises(ConversionError, match=r"first 'a': a table names each once"):
        plan(twice, tensors(SOURCES), {**TARGETS, "other": (1,)})


def test_uneven_thirds_are_refused() -> None:
    """A packed projection of 7 rows has no three parts; slicing would lose the last."""
    table: Table = (Rule("in", ("q", "k", "v"), SPLIT_QKV),)
    with pytest.raises(ConversionError, match=r"'in' \[7, 2\]"):
        plan(table, tensors({"in": np.zeros((7, 2))}), {"q": (2, 2), "k": (2, 2), "v": (2, 2)})


def test_planning_reads_no_values() -> None:
    def never() -> np.ndarray:
        raise AssertionError("a plan must not read")

    lazy = {name: Tensor(array.shape, "float32", never) for name, array in SOURCES.items()}
    plan(TABLE, lazy, TARGETS)


def test_the_digest_tells_tables_apart() -> None:
    other: Table = (*TABLE[:2], Drop("{path}.num_batches_tracked", why="for fun"), TABLE[3])
    assert planned().digest() == planned().digest()
    assert plan(other, tensors(SOURCES), TARGETS).digest() != planned().digest()


def test_modules_are_paired_by_their_tensors() -> None:
    assert modules(planned()) == {"conv.0": "c.0", "conv.1": "c.1"}, "a and b are the outermost's"


def test_a_module_that_becomes_several_is_paired_with_none() -> None:
    table = (
        Rule("lstm.weight_l{i}", "lstm.{i}.Wx", i=(0, 1)),
        Rule(("out.bias_a", "out.bias_b"), "linear.bias", ADD_BIASES),
    )
    names = ("lstm.weight_l0", "lstm.weight_l1", "out.bias_a", "out.bias_b")
    shapes = {"lstm.0.Wx": (1,), "lstm.1.Wx": (1,), "linear.bias": (1,)}
    laid = plan(table, tensors({name: np.zeros(1) for name in names}), shapes)
    assert modules(laid) == {"out": "linear"}


def test_each_repeats_a_layer() -> None:
    rules = each((Rule("x.{n}.w", "y.{n}.w"),), n=range(3))
    (rule,) = rules
    assert isinstance(rule, Rule)
    assert [move.targets for move in rule.moves()] == [("y.0.w",), ("y.1.w",), ("y.2.w",)]


@given(st.text("abc.", max_size=8))
def test_drop_matches_only_whole_names(text: str) -> None:
    drop = Drop("{path}.count", why="counts")
    assert drop.matches(f"{text}.count") == bool(text)
    assert not drop.matches(f"{text}.counter")
    assert not drop.matches("xcount")
