"""pyannote's own modules tell all that they do, under the names that the port has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest

from samevoice.converters import convert
from samevoice.parity import hints
from samevoice.parity.inputs import Example, batch, noise
from samevoice.parity.insides import layers_of
from samevoice.parity.listening import ReferenceError, names_of, seams_of
from samevoice.parity.metrics import rms
from samevoice.parity.reference import Reference
from samevoice.parity.roles.embedding import masks

SOUND = Example("noise", batch([noise(4000), noise(4000, seed=1)]))
VARIANTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "one direction": {"bidirectional": False},
    "a list of LSTMs": {"monolithic": False, "layers": 3},
    "no linear layers": {"linear": 0},
    "sigmoid": {"powerset": None},
}


@pytest.fixture(scope="module")
def part_of(pyannote: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., convert.Part]:
    del pyannote

    def make(model: Any, **more: Any) -> convert.Part:
        path = made_up.save(model, tmp_path_factory.mktemp("source") / "x.ckpt", **more)
        return located(path)

    return make


def located(path: Path) -> convert.Part:
    return convert.prepare(path, model_type="auto", options=convert.Options()).parts[0]


@pytest.fixture(scope="module")
def embedding(references: dict[str, Path]) -> Reference:
    return Reference.load(located(references["embedding"]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_with_weights_has_a_tap(part_of: Any, variant: str) -> None:
    reference = Reference.load(part_of(made_up.pyannet(**VARIANTS[variant])))
    seen = reference.record(SOUND)
    taps = set(seen.outputs)
    for _, target in pairs(part_of(made_up.pyannet(**VARIANTS[variant]))):
        assert target.rpartition(".")[0] in taps
    assert "output" in taps
    # The layers without weights show in what reaches the next one.
    assert set(seen.inputs) == taps - {"output"}


def pairs(part: convert.Part) -> list[tuple[str, str]]:
    return [(s, t) for m in part.plan.moves for s in m.sources for t in m.targets]


def test_the_resnet_shows_filterbank_blocks_and_pooling(embedding: Reference) -> None:
    seen = embedding.record(Example("x", SOUND.waveforms, masks(2, 30)))
    blocks = [
        f"resnet.layer{k + 1}.{n}" for k, count in enumerate((3, 4, 6, 3)) for n in range(count)
    ]
    for tap in (*blocks, "fbank", "resnet.pool", "resnet.seg_1", "resnet.layer2.0.shortcut.1"):
        assert tap in seen.outputs
    assert seen.outputs["resnet.conv1"].shape == (2, 80, 23, 32)
    assert seen.outputs["output"].shape == (2, 5, 256)
    assert len([tap for tap in seen.outputs if ".conv" in tap]) == 33


def test_a_rule_for_a_module_that_is_not_there_is_refused(embedding: Reference) -> None:
    names = names_of([("resnet.conv9.weight", "resnet.conv9.weight")])
    with pytest.raises(ReferenceError, match=r"no module 'resnet\.conv9'"):
        seams_of(embedding.module, names)


def test_hooks_change_nothing_and_go_away(embedding: Reference) -> None:
    before = embedding.run(SOUND)
    recorded = embedding.record(SOUND).outputs["output"]
    assert np.array_equal(before, recorded)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in embedding.module.modules())
    assert "compute_fbank" not in vars(embedding.module)


@pytest.mark.parametrize("kind", ["segmentation", "embedding"])
def test_the_truth_is_float64_throughout(references: dict[str, Path], kind: str) -> None:
    import torch

    reference = Reference.load(located(references[kind]))
    truth = reference.record(SOUND, "float64")
    assert all(array.dtype == np.float64 for array in truth.taps.values())
    plain = reference.record(SOUND)
    assert all(array.dtype == np.float32 for array in plain.taps.values())
    assert torch.get_default_dtype() == torch.float32
    # Were the mel banks, the window or the filters float32, both would share their rounding.
    first = "fbank" if kind == "embedding" else "sincnet.conv.0"
    assert rms(truth.outputs[first], plain.outputs[first]) > 1e-8
    if kind == "embedding":
        assert np.abs(truth.outputs["fbank"] - shared_banks(reference)).max() > 1e-7


def shared_banks(reference: Reference) -> np.ndarray:
    """The filterbank as ``.double()`` alone would give it: in float64 with float32 mel banks."""
    import torch

    model: Any = reference.double
    features: np.ndarray = model.compute_fbank(torch.from_numpy(SOUND.waveforms).double()).numpy()
    return features


def test_each_layer_takes_what_it_is_fed(embedding: Reference) -> None:
    plain = embedding.record(SOUND)
    fed = dict(plain.inputs)
    fed["resnet.layer3.2"] = np.zeros_like(fed["resnet.layer3.2"])
    fed["resnet.layer3.2.conv1"] = np.zeros_like(fed["resnet.layer3.2.conv1"])
    local = embedding.record(SOUND, "float64", fed=fed)
    # What would have reached the layer is noted, not what was put in its place.
    assert rms(local.inputs["resnet.layer3.2"], plain.inputs["resnet.layer3.2"]) < 1e-4
    assert rms(local.inputs["resnet.layer3.2"], plain.inputs["resnet.layer3.2"]) > 0
    assert not local.outputs["resnet.layer3.2.conv1"].any()
    # The one behind is fed again, and knows nothing of it.
    after = local.outputs["resnet.layer3.3.conv1"]
    assert rms(after, plain.outputs["resnet.layer3.3.conv1"]) < 1e-5


@pytest.mark.parametrize("bidirectional", [True, False])
def test_an_lstm_layer_by_layer_is_the_lstm(pyannote: Any, bidirectional: bool) -> None:
    import torch

    torch.manual_seed(0)
    lstm = torch.nn.LSTM(6, 5, num_layers=3, bidirectional=bidirectional, batch_first=True).eval()
    x = torch.randn(2, 7, 6)
    with torch.inference_mode():
        y = x
        for layer in layers_of(lstm):
            y = layer(y)[0]
        assert torch.allclose(y, lstm(x)[0], rtol=0, atol=1e-6)


def test_a_port_says_where_each_module_has_its_axes() -> None:
    """A Linear that takes (T, B, C) in the original, and (B, T, C) in the port."""
    import torch

    class Turning(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = torch.nn.Linear(2, 2, bias=False)
            self.twice.weight.data = 2 * torch.eye(2)

        def forward(self, x: Any) -> Any:
            return self.twice(x.permute(2, 0, 1))[..., None]

    module = Turning()
    hints.lay(module, {"": (None, (0, 1, 2, 3)), "twice": ((1, 0, 2), (1, 0, 2))})
    seams = seams_of(module, names_of([("twice.weight", "twice.weight")]))
    assert seams.modules == {"twice": "twice"}  # though it is the only one
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)  # (B, C, T)
    example, frames = Example("x", arguments=(x,)), x.transpose(0, 2, 1)
    seen = Reference(module, seams).record(example)
    assert seen.inputs["twice"].tolist() == frames.tolist()
    assert seen.outputs["twice"].tolist() == (2 * frames).tolist()
    assert seen.outputs["output"].tolist() == (2 * frames.transpose(1, 0, 2))[..., None].tolist()
    forced = Reference(module, seams).record(example, fed={"twice": frames + 1})
    assert forced.outputs["twice"].tolist() == (2 * frames + 2).tolist()


def test_a_module_that_was_laid_is_heard_beside_its_only_child() -> None:
    import torch

    class Doubling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return 2 * self.linear(x)

    module = torch.nn.ModuleDict({"twice": Doubling()})
    names = names_of([("twice.linear.weight", "twice.linear.weight")])
    assert seams_of(module, names).modules == {"twice.linear": "twice"}
    hints.lay_kinds(module, {"Doubling": ((0, 1), (0, 1))})
    assert seams_of(module, names).modules == {"twice": "twice", "twice.linear": "twice.linear"}


def test_attention_of_one_sequence_to_another_is_heard_with_its_mask() -> None:
    import torch

    class Looking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = torch.nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Any, y: Any) -> Any:
            unseen = (torch.arange(y.shape[1]) > 1).expand(len(y), -1)
            return self.attn(x, y, value=2 * y, key_padding_mask=unseen)[0]

    parts = ("query_proj", "key_proj", "value_proj")
    pairs = [("attn.in_proj_weight", f"attn.{part}.weight") for part in parts]
    pairs.append(("attn.out_proj.weight", "attn.out_proj.weight"))
    module = Looking()
    hints.lay(module, {"attn": (None, (0, 1, 2))})
    hints.hear_by_first(module.attn)
    reference = Reference(module, seams_of(module, names_of(pairs)))
    x, y = noise(24).reshape(2, 3, 4), noise(40).reshape(2, 5, 4)
    seen = reference.record(Example("x", arguments=(x, y)))
    assert np.array_equal(seen.inputs["attn.query_proj"], x)
    assert np.array_equal(seen.inputs["attn.key_proj"], y)
    assert np.array_equal(seen.inputs["attn.value_proj"], 2 * y)
    for tap in ("attn", "attn.out_proj"):
        np.testing.assert_allclose(seen.outputs[tap], seen.outputs["output"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_network_that_goes_on_from_states_is_heard(kind: str) -> None:
    import torch

    class Streaming(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(3, 4, 2, batch_first=True)

        def forward(self, x: Any, h: Any, c: Any) -> Any:
            y, states = self.rnn(x, (h, c) if kind == "LSTM" else h)
            return (y, *states) if kind == "LSTM" else (y, states)

    pairs = [(f"rnn.weight_hh_l{n}", f"rnn.{n}.Wh") for n in (0, 1)]
    module = Streaming()
    reference = Reference(module, seams_of(module, names_of(pairs)))
    given = noise(30).reshape(2, 5, 3), noise(16).reshape(2, 2, 4), noise(16).reshape(2, 2, 4)
    example = Example("x", arguments=given)
    seen = reference.record(example)
    assert seen.outputs["rnn.1"].tolist() == seen.outputs["output"].tolist()
    fed = reference.record(example, fed={"rnn.1": seen.inputs["rnn.1"]}).outputs
    for tap, array in seen.outputs.items():
        np.testing.assert_allclose(fed[tap], array, rtol=1e-5, atol=1e-6)


def test_what_is_fed_arrays_has_its_filterbank_to_itself() -> None:
    import torch

    class Hearing(torch.nn.Module):
        def compute_fbank(self, x: Any) -> Any:
            return x + 1

        def forward(self, x: Any) -> Any:
            return 2 * self.compute_fbank(x)

    reference = Reference(Hearing(), seams_of(Hearing(), names_of([])))
    assert [*reference.record(Example("x", arguments=(noise(4),))).outputs] == ["output"]
    assert [*reference.record(Example("x", noise(4)[None, None])).outputs] == ["fbank", "output"]


def test_a_weight_that_is_computed_belongs_to_its_layer_on_both_sides() -> None:
    pair = ("conv.parametrizations.weight.0._u", "conv.parametrizations.weight.0.u")
    assert names_of([pair]).modules == {"conv": "conv"}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_layers_of_one_with_time_in_front_are_heard_batch_first(kind: str) -> None:
    import torch

    class Recurrent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(3, 4, 2)

        def forward(self, x: Any) -> Any:
            return self.rnn(x)[0]

    pairs = [(f"rnn.weight_hh_l{n}", f"rnn.{n}.Wh") for n in (0, 1)]
    module = Recurrent()
    reference = Reference(module, seams_of(module, names_of(pairs)))
    example = Example("x", arguments=(noise(30).reshape(5, 2, 3),))
    seen = reference.record(example)
    assert [seen.inputs[f"rnn.{n}"].shape for n in (0, 1)] == [(2, 5, 3), (2, 5, 4)]
    assert seen.outputs["rnn.1"].tolist() == seen.outputs["output"].swapaxes(0, 1).tolist()
    fed = {"rnn.1": seen.inputs["rnn.1"]}
    assert np.allclose(reference.record(example, fed=fed).outputs["output"], seen.outputs["output"])


def test_a_batch_whose_items_hear_each_other_is_no_noise_taken_apart() -> None:
    import torch

    class Mixing(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x, x - x.mean(0)

    example = Example("x", arguments=(noise(6).reshape(2, 3),), items=2)
    found = Reference(Mixing(), seams_of(Mixing(), names_of([]))).floors(example, deep=False)
    assert set(found["one by one"]) == {"output"}


def test_a_chain_that_differs_is_found(part_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from samevoice.parity import listening as module

    reference = Reference.load(part_of(made_up.pyannet(layers=2)))
    monkeypatch.setattr(module, "layers_of", lambda lstm: layers_of(lstm)[:1])
    with pytest.raises(ReferenceError, match="layers one by one"):
        reference.record(SOUND)


def test_pytorch_differs_from_itself_by_rounding(embedding: Reference) -> None:
    truth = embedding.record(SOUND, "float64").outputs["output"]
    found = {name: one.outputs["output"] for name, one in embedding.evaluations(SOUND)}
    assert {"channels last", "one by one"} <= found.keys()
    errors = {name: rms(truth, one) for name, one in found.items()}
    plain = rms(truth, embedding.run(SOUND))
    assert all(0.2 * plain < error < 5 * plain for error in errors.values())


def test_a_bare_state_dict_goes_into_pyannotes_class(part_of: Any, tmp_path: Path) -> None:
    import torch

    model = made_up.pyannet(layers=1)
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    bare = Reference.load(located(tmp_path / "bare.pt"))
    whole = Reference.load(part_of(model))
    assert np.array_equal(bare.run(SOUND), whole.run(SOUND))


def test_other_weights_than_the_checkpoints_are_found(
    part_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samevoice.parity import reference as module

    other = made_up.pyannet(seed=1)
    monkeypatch.setattr(module, "_as_pyannote_loads", lambda part: other)
    with pytest.raises(ReferenceError, match="holds another"):
        Reference.load(part_of(made_up.pyannet(seed=0)))


def test_a_layer_that_loses_its_name_is_missed(part_of: Any) -> None:
    part = part_of(made_up.pyannet())
    whole = Reference.load(part)
    kept = [(source, target) for source, target in pairs(part) if "linear.0" not in source]
    without = Reference(whole.module, seams_of(whole.module, names_of(kept)))
    assert set(whole.record(SOUND).outputs) - set(without.record(SOUND).outputs) == {"linear.0"}


def test_an_lstm_that_runs_twice_has_taps_for_each_run() -> None:
    import torch

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.lstm(self.lstm(x)[0])[0]
            return found

    module = Twice()
    names = names_of([(f"lstm.{name}_l0", f"lstm.forward.{name}") for name in ("weight_hh",)])
    example = Example("x", arguments=(np.ones((1, 4, 3), np.float32),))
    seen = Reference(module, seams_of(module, names)).record(example)
    assert seen.order == [
        "lstm.forward.input", "lstm.forward", "lstm.forward#2.input", "lstm.forward#2", "output",
    ]  # fmt: skip
    np.testing.assert_array_equal(seen.outputs["lstm.forward#2"], seen.outputs["output"])


def test_wrapped_layers_show_the_block_around_them_and_what_holds_no_tensors_its_own_name() -> None:
    import torch

    class Wrapped(torch.nn.Module):
        """As speechbrain's convolutions: the layer alone in a module of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv1d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.conv(x + 1))

    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = Wrapped(), Wrapped()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.last(self.first(x)))

    class Means(torch.nn.Module):
        """A pooling, whose name says nothing."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=2)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores, self.pool = Scores(), Means()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.pool(self.scores(x)))

    names = names_of([(f"scores.{n}.conv.weight", f"scores.{n}.weight") for n in ("first", "last")])
    module = Whole()
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    seen = Reference(module, seams_of(module, names)).record(Example("x", arguments=(x,)))
    assert list(seen.outputs) == ["scores.first", "scores.last", "scores", "pool", "output"]
    np.testing.assert_array_equal(seen.inputs["scores.first"], x.swapaxes(1, 2))
    np.testing.assert_array_equal(seen.inputs["pool"], seen.outputs["scores"])
