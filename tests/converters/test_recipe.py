"""A recipe gives each layer its type; --dtype and -q are short for two of them."""

from __future__ import annotations

import json
import re
import string
from contextlib import suppress
from pathlib import Path
from typing import Any

import made_up
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import samevoice
from samevoice.converters import recipe as recipes
from samevoice.converters.inspect import inspect
from samevoice.converters.recipe import BITS, FLOATS, TYPES, Recipe, Storage, Stored
from samevoice.errors import ConversionError
from samevoice.models import registry
from samevoice.parity.identity import dtype_of, dtype_of_pipeline

MIXED = """
group_size = 32

[layers]
"lstm.0.forward" = 4
"lstm.0.*" = "6"
"linear.*" = 8
classifier = "bfloat16"
"sincnet.conv.1" = "float16"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_file(made_up.pyannet_arrays(hidden=32), tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def converted(source: Path, text: str, **options: Any) -> Any:
    """A conversion by a recipe of this text."""
    (source.parent / "recipe.toml").write_text(text)
    return samevoice.convert(
        source,
        source.parent / "out",
        recipe=source.parent / "recipe.toml",
        overwrite=True,
        **options,
    )


def loaded(source: Path) -> dict[str, mx.array]:
    found = mx.load(str(source.parent / "out" / "model.safetensors"))
    assert isinstance(found, dict)
    return found


def config_of(source: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((source.parent / "out" / "config.json").read_text())
    return found


def test_each_layer_is_stored_as_it_says(source: Path) -> None:
    made = converted(source, MIXED)
    weights = loaded(source)
    # (128, 32) in 4 bits are 128 rows of 32 * 4 / 32 words; in 6 bits of 6.
    assert weights["lstm.0.forward.Wh"].shape == (128, 4)
    assert weights["lstm.0.backward.Wh"].shape == (128, 6)
    assert weights["lstm.0.forward.Wh_scales"].shape == (128, 1)
    # Rows of 60 do not divide into groups of 32.
    assert weights["lstm.0.forward.Wx"].dtype == mx.float32
    assert weights["linear.0.weight"].shape == (32, 16)
    assert weights["classifier.weight"].dtype == mx.bfloat16
    assert weights["classifier.bias"].dtype == mx.float32
    assert weights["sincnet.conv.1.weight"].dtype == mx.float16
    assert weights["sincnet.conv.0.low_hz"].dtype == mx.float32
    said = config_of(source)
    assert said["dtype"] == "float32"
    assert said["dtypes"] == {"classifier": "bfloat16", "sincnet.conv.1": "float16"}
    assert said["quantization"] == said["quantization_config"]
    assert said["quantization"]["linear.0"] == {"group_size": 32, "bits": 8, "mode": "affine"}
    assert said["quantization"]["lstm.0.backward"]["bits"] == 6
    assert said["quantization"]["classifier"] is False
    assert dtype_of(said) == "mixed-4"
    (note,) = made.parts[0].notes[-1:]
    assert re.match(r"mixed precision: .* in 4 bits; computed in float32", note)
    types = {
        row.target: row.target_dtype
        for row in inspect(source.parent / "out").tallies["segmentation"]
    }
    assert types["lstm.0.forward.Wh"] == "4-bit"
    assert types["classifier.weight"] == "bfloat16"


def test_what_runs_is_the_rounded_float32_network(source: Path) -> None:
    """Packed convolutions and LSTMs are numbers again; what they were rounded to is known."""
    converted(source, MIXED)
    network = samevoice.load(source.parent / "out")
    arrays = made_up.pyannet_arrays(hidden=32)
    packed = mx.quantize(mx.array(arrays["lstm.weight_hh_l0"]), 32, 4)
    wanted = mx.dequantize(*packed, 32, 4)
    ways = network.lstm[0].ways
    assert mx.array_equal(ways[0].Wh, wanted)
    classifier = mx.array(arrays["classifier.weight"]).astype(mx.bfloat16).astype(mx.float32)
    assert mx.array_equal(network.classifier.weight, classifier)
    on_gpu = registry.build(network.config).linear[0]
    assert on_gpu.scales.shape == (32, 2)
    x = mx.array(np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32))
    assert network(x).dtype == mx.float32
    # The way back knows the same numbers.
    back = samevoice.to_torch(source.parent / "out", source.parent / "back.safetensors")
    assert not back.exact
    from safetensors.numpy import load_file

    assert np.array_equal(load_file(back.path)["lstm.weight_hh_l0"], np.array(wanted))


def test_kernels_are_packed_along_their_inputs(tmp_path: Path, references: dict[str, Path]) -> None:
    (tmp_path / "r.toml").write_text('[embedding.layers]\n"resnet.layer1.*" = 8\n')
    samevoice.convert(references["full"], tmp_path / "out", recipe=tmp_path / "r.toml")
    weights = mx.load(str(tmp_path / "out" / "embedding" / "model.safetensors"))
    assert isinstance(weights, dict)
    assert weights["resnet.layer1.0.conv1.weight"].shape == (32, 3, 3, 8)
    assert weights["resnet.layer1.0.conv1.scales"].shape == (32, 3, 3, 1)
    network = samevoice.load(tmp_path / "out" / "embedding")
    assert network.resnet.layer1[0].conv1.weight.shape == (32, 3, 3, 32)
    assert dtype_of_pipeline(tmp_path / "out") == "mixed-8"
    plain = json.loads((tmp_path / "out" / "segmentation" / "config.json").read_text())
    assert "quantization" not in plain


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "float16"}, 'dtype = "float16"'),
        ({"q_bits": 4, "q_group_size": 32}, "linear = 4\ngroup_size = 32"),
        ({"dtype": "bfloat16", "q_bits": 8}, 'dtype = "bfloat16"\nlinear = 8\ngroup_size = 64'),
    ],
)
def test_dtype_and_bits_are_short_for_a_recipe(
    options: dict[str, Any], text: str, source: Path
) -> None:
    samevoice.convert(source, source.parent / "short", **options)
    converted(source, text)
    for name in ("model.safetensors", "config.json"):
        files = [(source.parent / folder / name).read_bytes() for folder in ("short", "out")]
        assert files[0] == files[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[layers]\nlstm = 4", r"names 'lstm', which fits no layer: there are classifier, "),
        ('[layers]\n"conv.*" = 4', r"names 'conv\.\*', which fits no layer"),
        ("[layers]\nclassifier = 5", r"the layer 'classifier' is '5', not one of float32, .*, 4"),
        ("default = true", r"default is 'True', not one of"),
        ("default = 4\ngroup_size = 48", "group size 48 is not one of"),
        ('dtype = "4"', "dtype '4' is not one of"),
        ('dtype = "float16"\ndefault = "bfloat16"', "two types of floats need dtype float32"),
        ("bits = 4", "the recipe has 'bits': it takes dtype, default, linear, group_size, layers"),
        ("layers = 4", "layers of the recipe is 4"),
        ('[layers]\n"sincnet.conv.1" = 4', r"rows of 80 values, which do not divide .* of 32"),
        ("default =", r"recipe\.toml is no TOML: "),
    ],
)
def test_bad_recipes_are_refused_in_one_line(text: str, said: str, source: Path) -> None:
    with pytest.raises(ConversionError, match=said) as refused:
        converted(source, text)
    assert "\n" not in str(refused.value)
    assert not (source.parent / "out").exists()


def test_a_pipeline_has_a_table_for_each_part(tmp_path: Path, references: dict[str, Path]) -> None:
    for text, said in (
        ("default = 4", r"'default', but a pipeline's has a table for each part: .*embedding"),
        ("[plda]\ndefault = 4", "plda: a PLDA is copied as it is: leave it out of the recipe"),
        ("[embedding]\nbits = 4", "embedding: the recipe has 'bits'"),
    ):
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(ConversionError, match=said):
            samevoice.convert(references["full"], tmp_path / "out", recipe=tmp_path / "r.toml")


def test_a_name_wins_over_patterns_and_the_first_of_these(source: Path) -> None:
    recipe = Recipe(default="float16", linear="8", layers={"a.*": "4", "*": "6", "a.b": "bfloat16"})
    assert [recipe.type_of(x) for x in ("a.b", "a.c", "b")] == ["bfloat16", "4", "6"]
    recipe = Recipe(default="float16", linear="8")
    assert [recipe.type_of("a", linear=x) for x in (True, False)] == ["8", "float16"]


def test_sizes_are_those_of_the_file() -> None:
    """(2, 64) in 4 bits: 2 * 8 words and 2 groups with a scale and a bias, 64 + 16 bytes."""
    storage = Storage(Recipe(default="4"), {"a.weight": (2, 64)}, ())
    assert storage.of("a.weight") == Stored("4", 64)
    assert sum(slot.nbytes for slot in storage.slots("a.weight", (2, 64))) == 80
    halves = Storage(Recipe(default="4"), {"a.weight": (2, 96)}, ())
    assert halves.of("a.weight") == Stored("4", 32)


names = st.text(string.ascii_lowercase + string.digits + "._*", min_size=1, max_size=12)


@given(
    dtype=st.sampled_from(FLOATS),
    default=st.sampled_from(("", *BITS)),
    linear=st.sampled_from(("", *BITS)),
    group=st.sampled_from((None, 32, 64, 128)),
    layers=st.dictionaries(names, st.sampled_from(TYPES), max_size=6),
)
def test_a_recipe_comes_back_from_its_file(
    dtype: str, default: str, linear: str, group: int | None, layers: dict[str, str]
) -> None:
    import tomllib

    if dtype != "float32":
        layers = {name: one for name, one in layers.items() if one in (dtype, *BITS)}
    recipe = Recipe(dtype, default, linear, group, layers)
    text = recipes.text({"embedding": recipe, "segmentation": Recipe()})
    read = tomllib.loads(text)
    assert {part: Recipe.of(table) for part, table in read.items()} == {
        "embedding": recipe,
        "segmentation": Recipe(),
    }
    assert Recipe.of(tomllib.loads(recipes.text({"": recipe}))) == recipe


@given(
    st.dictionaries(names, st.integers() | st.text(max_size=5) | st.none() | st.lists(st.none()))
)
def test_whatever_stands_in_a_recipe_is_read_or_refused(content: dict[str, Any]) -> None:
    for table in (content, {"layers": content}):
        with suppress(ConversionError):
            Recipe.of(table)
