"""Each operation that has a form gives in MLX what it gives in PyTorch, and as exactly."""

from __future__ import annotations

from functools import cache

import pytest
from port.page import CASES, PAGE, operations, row
from port.ported import OTHER_SIZES, SIZES, Case, Trial, trials

from samevoice.port.graph import PortError
from samevoice.port.operations import forms

SEEN: dict[tuple[int, bool], set[str]] = {}  # the operations of each case that ran here
# Forms that no code here comes to, as torch's own version decides which operation it records.
UNREACHED = (
    *("_log_softmax", "_softmax", "_reshape_alias", "_unsafe_view", "_to_copy", "norm", "empty"),
    *("_weight_norm_interface", "bitwise_left_shift", "bitwise_right_shift", "conj"),
    *("conj_physical", "constant_pad_nd", "new_empty", "resolve_conj", "resolve_neg"),
    *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
    *("special_xlogy", "squeeze_copy", "fft_fftn", "fft_ifft2", "fft_ifftn", "fft_irfftn"),
    # These are refused.
    *("_unique2", "unique_consecutive", "unique_dim", "masked_select", "nonzero"),
    *("rnn_relu", "rnn_tanh", "lstm", "gru"),
)
ALL = [one for cases in CASES.values() for one in trials(cases)]


def told(case: Case, channels_last: bool) -> str:
    return " ".join([*case.layers.values(), case.name, *["(channels last)"] * channels_last])


@cache
def page() -> frozenset[str]:
    return frozenset(PAGE.read_text(encoding="utf-8").splitlines())


@pytest.mark.long
@pytest.mark.parametrize(("case", "channels_last"), ALL, ids=[told(one, last) for one, last in ALL])
def test_a_case_gives_the_same_in_mlx(case: Case, channels_last: bool) -> None:
    trial = Trial(case, channels_last)
    SEEN[id(case), channels_last] = set(trial.operations)
    assert not trial.ported.unknown
    assert trial.ratio(SIZES) <= case.bound, trial.code
    assert trial.ratio(OTHER_SIZES) <= case.bound, trial.code
    assert channels_last or row(trial) in page(), "python -m port.page writes the page anew"


@pytest.mark.long
def test_every_form_has_a_case() -> None:
    if len(SEEN) < len(ALL):
        pytest.skip("not all cases ran in this process")
    operations = set().union(*SEEN.values())
    seen = operations | {kind.partition(".")[0] for kind in operations}
    assert sorted(forms().keys() - seen - set(UNREACHED)) == []


def test_the_page_names_every_operation() -> None:
    assert f"{operations()}." in page()


def test_an_operation_without_a_form_is_left_to_be_written() -> None:
    trial = Trial(Case("torch.linalg.pinv(x)"))
    assert len(trial.ported.unknown) == 1
    assert "nn.missing(" in trial.code
    assert "return torch.linalg.pinv(x)" in trial.code
    with pytest.raises(NotImplementedError, match="linalg_pinv"):
        trial.ratio(SIZES)


@pytest.mark.parametrize(
    "code", ["torch.masked_select(x, x > 0)", "x[x > 0]", "torch.nonzero(x)", "torch.unique(x)"]
)
def test_what_gives_more_or_less_for_other_values_is_refused(code: str) -> None:
    with pytest.raises(PortError) as refused:
        Trial(Case(code))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "code",
    [
        "x = x * 1\ny = x[1]\nx.add_(1)\nx + y",
        "x = x * 1\ny = x[:, :2]\nx[:, 1] += 1\nx[:, :2] + y",
        "x = x * 1\nx.view(-1).mul_(2)\nx",
    ],
)
def test_what_is_changed_under_a_view_of_it_is_refused(code: str) -> None:
    with pytest.raises(PortError, match="changed in place"):
        Trial(Case(code))


def test_what_happens_once_for_every_so_many_happens_more_often_later() -> None:
    pooled = "F.avg_pool1d(x, 60, ceil_mode=True)[..., None].expand(-1, -1, -1, 60)"
    trial = Trial(Case(f"{pooled}.flatten(2)[..., : x.shape[-1]]"))
    assert trial.ratio(SIZES | {"T": 140}) <= 3, trial.code


def test_a_wrong_result_is_seen() -> None:
    trial = Trial(Case("x * 2"))
    trial.network.__class__.__call__ = lambda self, x: x * 2.0001
    assert trial.ratio(SIZES) > 100
