"""torch's own layers are known where they are usual, and refused in one line where they are not."""

from __future__ import annotations

import pytest
from port.ported import Case, Trial

from samevoice.port.graph import PortError


def code(layer: str, call: str = "self.m(x)", given: str = "B T 6") -> str:
    return Trial(Case(call, {"x": given}, {"m": layer})).code


def test_last_states_are_asked_for_only_where_they_are_used() -> None:
    lstm = "nn.LSTM(6, 5, batch_first=True)"
    assert "self.m(x)" in code(lstm, "self.m(x)[0]")
    assert "self.m.states(x)" in code(lstm, "self.m(x)[1][0]")


def test_arguments_that_are_usual_are_left_out() -> None:
    assert "nn.Conv1d(6, 5, 3)\n" in code("nn.Conv1d(6, 5, 3)", given="B 6 T")
    conv = "nn.Conv1d(6, 6, 3, padding=1, groups=2, bias=False)"
    assert f"self.m = {conv}\n" in code(conv, given="B 6 T")


@pytest.mark.parametrize(
    "layer", ["nn.LSTM(6, 5, bias=False)", "nn.LSTM(6, 5, proj_size=3)", "nn.GRU(6, 5, bias=False)"]
)
def test_recurrent_layers_without_a_counterpart_are_refused(layer: str) -> None:
    with pytest.raises(PortError, match=r"^m: no form of") as refused:
        code(layer, "self.m(x)[0]")
    assert "\n" not in str(refused.value)


def test_a_recurrent_layer_without_a_batch_is_refused() -> None:
    with pytest.raises(PortError, match="is given no batch"):
        code("nn.LSTM(6, 5)", "self.m(x)[0]", "T 6")
