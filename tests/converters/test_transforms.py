"""Layouts by hand, and the casts that round once."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.converters import transforms as t

LAYOUTS = (t.OIK_TO_OKI, t.OIHW_TO_OHWI, t.IOK_TO_OKI, t.IOHW_TO_OHWI)


def test_conv1d_moves_the_taps_before_the_input_channels() -> None:
    # One output, two inputs, three taps: torch has a row per input, MLX a row per tap.
    (moved,) = t.OIK_TO_OKI.forward(np.array([[[1, 2, 3], [4, 5, 6]]]))
    assert moved.tolist() == [[[1, 4], [2, 5], [3, 6]]]


def test_conv2d_keeps_height_before_width() -> None:
    weight = np.arange(2 * 3).reshape(1, 1, 2, 3)
    (moved,) = t.OIHW_TO_OHWI.forward(weight)
    assert moved.shape == (1, 2, 3, 1)
    assert moved[0, :, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_transposed_convolution_turns_input_and_output_round() -> None:
    (moved,) = t.IOK_TO_OKI.forward(np.array([[[1, 2], [3, 4], [5, 6]]]))  # I=1, O=3, K=2
    assert moved.tolist() == [[[1], [2]], [[3], [4]], [[5], [6]]]


def test_lstm_biases_add_up_gate_by_gate() -> None:
    (bias,) = t.ADD_BIASES.forward(np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 30, 40]))
    assert bias.tolist() == [11, 22, 33, 44]


def test_gru_keeps_the_candidates_hidden_bias_apart() -> None:
    b, bhn = t.GRU_BIASES.forward(np.array([1.0, 2, 3]), np.array([10.0, 20, 30]))
    assert b.tolist() == [11, 22, 3]
    assert bhn.tolist() == [30]


def test_packed_attention_splits_into_query_key_value() -> None:
    packed = np.arange(12).reshape(6, 2)
    query, key, value = t.SPLIT_QKV.forward(packed)
    assert (query[0, 0], key[0, 0], value[0, 0]) == (0, 4, 8)
    assert t.SPLIT_QKV.inverse is not None
    (back,) = t.SPLIT_QKV.inverse(query, key, value)
    assert back.tolist() == packed.tolist()


@given(data=st.data(), layout=st.sampled_from(LAYOUTS))
def test_every_layout_has_its_way_back(data: st.DataObject, layout: t.Transform) -> None:
    rank = 3 if "K" in layout.name else 4
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * rank))
    weight = np.random.default_rng(0).standard_normal(shape)
    assert layout.inverse is not None
    (back,) = layout.inverse(*layout.forward(weight))
    assert back.tobytes() == weight.tobytes()


def test_float64_to_bfloat16_rounds_once() -> None:
    # Just above halfway between two bfloat16 values. Rounded to float32 first it falls on the
    # halfway point, and from there to the even neighbour, which is the wrong one.
    value = np.array([1 + 2**-8 + 2**-40])
    twice = value.astype(np.float32).astype(ml_dtypes.bfloat16)
    assert float(twice[0]) == 1.0
    assert float(t.cast(value, "bfloat16")[0]) == 1 + 2**-7


@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.builds(
            lambda exponent, tail: 2.0**exponent * (1 + 2**-8 + tail),
            st.integers(-20, 20),
            st.sampled_from([2.0**-k for k in range(25, 50)] + [-(2.0**-k) for k in range(25, 50)]),
        ),
    )
)
def test_bfloat16_is_the_nearest(value: float) -> None:
    got = t.cast(np.array([value]), "bfloat16")[0]
    if not np.isfinite(got):
        assert abs(value) >= 3.3895e38
        return
    here = float(got)
    around = (
        float(np.nextafter(got, ml_dtypes.bfloat16(direction))) for direction in (-np.inf, np.inf)
    )
    assert all(abs(value - here) <= abs(value - other) for other in around if np.isfinite(other))


def test_infinity_nan_and_zero_survive_the_cast() -> None:
    values = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0])
    got = t.cast(values, "bfloat16").astype(np.float64)
    assert got[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(got[2])
    assert np.signbit(got[3:]).tolist() == [False, True]


def test_counters_are_never_cast() -> None:
    assert t.cast(np.array(5), "float16").dtype == np.int64


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_casting_to_the_same_type_changes_nothing(dtype: str) -> None:
    values = t.cast(np.linspace(-3, 3, 11), dtype)
    assert t.cast(values, dtype) is values
