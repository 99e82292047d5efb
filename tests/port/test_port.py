"""``samevoice port``, as somebody runs it on a module of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import ROOT
from hypothesis import given
from hypothesis import strategies as st
from test_family import command
from typed import Answer, Run

from samevoice import cli, family
from samevoice.port import inputs
from samevoice.port.loops import rolled
from samevoice.port.text import Number, literal

pytest.importorskip("torch")

MODELS = """
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = nn.Conv1d(channels, 8, 3, padding=dilation, dilation=dilation)
        self.bn = nn.BatchNorm1d(8)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Dense(nn.ModuleList):
    def __init__(self, count, channels, dilation):
        super().__init__()
        for k in range(count):
            self.add_module(f"layer{k + 1}", Layer(channels + 8 * k, dilation))

    def forward(self, x):
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Net(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.first, self.second = Dense(4, 16, 1), Dense(6, 48, 2)
        self.lstm = nn.LSTM(96, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, classes))

    def forward(self, x):
        frames = self.second(self.first(x))
        heard, _ = self.lstm(frames.transpose(1, 2))
        return self.head(heard.mean(dim=1)), frames[:, :3]


class Striding(nn.Module):
    def __init__(self, mode="null"):
        super().__init__()
        assert mode in ("null", "true or false")
        self.conv = nn.Conv1d(6, 8, 3, stride=2, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return torch.tensor(0.5), y.square().sum(2) / (y.shape[2] - 1)


class Stepping(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = torch.zeros_like(x[:, 0])
        for frame in x.unbind(1):
            y = torch.tanh(self.linear(frame) + y)
        return y


class Streaming(nn.Module):
    # Its names are private, or a dictionary's; who holds weights need not be called.
    def __init__(self):
        super().__init__()
        self._first, self.keys = nn.Linear(6, 8), Held()
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, lengths, h):
        try:
            x = self._first(x, lengths)
        except TypeError:
            x = self._first(x)
        y, h = self.rnn(torch.vmap(torch.tanh)(x), h)
        unseen = torch.arange(int(lengths.max()))[None] >= lengths[:, None]
        y, _ = self.attn(y, y, y, key_padding_mask=unseen)
        y[:, :, 2:4] += self.keys.scale()
        return y, h


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self._log = nn.Parameter(torch.zeros(2))

    def scale(self):
        return self._log.exp()


class Shuffling(nn.Module):
    # It is given its channels behind, as its layer wants them, and leaves them in front.
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return y.view(len(y), 2, 3, -1).transpose(1, 2).reshape(len(y), 6, -1)


class Turns(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Shuffling()
        self.blocks = nn.Sequential(Shuffling(), Shuffling(), Shuffling())

    def forward(self, x):
        return self.blocks(self.first(x))


class Half(nn.Module):
    # Built in half precision; its authors cast inside.
    def __init__(self):
        super().__init__()
        self.linear, self.norm1, self.norm2 = nn.Linear(4, 8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.half()

    def forward(self, x):
        y = self.norm1(self.linear(x).float()).type_as(x)
        return self.norm2(y.to(torch.float32))


class Keeping(Half):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        self.seen += x.mean((0, 1))
        return super().forward(x + self.seen)


class CAMPPlus(Shuffling):
    pass


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.cdist(self.linear(x), x)


class Dicing(Odd):
    def forward(self, x):
        return torch.dropout(self.linear(x), 0.5, True)


class Choosy(Odd):
    def forward(self, x):
        y = self.linear(x)
        if y.sum() > 0:
            return y
        return -y
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_models.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def port(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """The command in this process, in the folder of the models."""
    monkeypatch.setattr(family, "_added", [])
    monkeypatch.syspath_prepend(here)

    def answer(*words: str) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["port", *words])
        said = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), said.out, said.err)

    yield answer
    family.find.cache_clear()
    sys.modules.pop("my_models", None)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the first one, by the command itself."""
    folder = tmp_path_factory.mktemp("net")
    (folder / "my_models.py").write_text(MODELS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as moved:
        moved.chdir(folder)
        done = command(None, "port", "my_models:Net", "--output", "net", "--input", "2x16x50")
    assert done.returncode == 0, done.stderr
    assert "free sizes B, T" in done.stdout
    return folder / "net"


def test_a_module_becomes_a_package_whose_every_layer_agrees(net: Path) -> None:
    code = (net / "net_mlx" / "network.py").read_text(encoding="utf-8")
    # One class for both blocks, and loops where the layers repeat.
    assert code.count("class Dense(") == 1
    assert 'self[f"layer{n}"] = Layer(channels + 8 * (n - 1), dilation)' in code
    assert "self.first = Dense(4, channels=16, dilation=1)" in code
    assert 'x = mx.concatenate([x, self[f"layer{n}"](x)], axis=-1)' in code
    # Names are the original's, also of what is used once.
    assert "heard = self.lstm(frames)" in code
    # The channels are turned once, where the network begins.
    assert code.count("swapaxes") == 2
    assert (net / "parity" / "report.html").is_file()


@pytest.mark.long
def test_what_is_written_is_typed_and_formatted(net: Path) -> None:
    config = ROOT / "pyproject.toml"
    known = ["--config-file", str(config), "--cache-dir", str(ROOT / ".mypy_cache")]
    for tool in (
        ["mypy", "--strict", *known, "net_mlx"],
        ["ruff", "format", "--check", "--line-length", "100", "."],
    ):
        checked = subprocess.run(
            [sys.executable, "-m", *tool],
            cwd=net,
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_original_is_found_in_the_current_folder(net: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(net)!r}); import net_mlx.original as o; o.build({{}})"
    )
    line = [sys.executable, "-P", "-c", code]  # as an installed command looks for modules
    done = subprocess.run(line, cwd=net.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_class_that_was_edited_is_ported_again(here: Path, port: Run) -> None:
    words = ["my_models:Turns", "--input", "2x6x9", "--name", "Edited", "--output", "net"]
    assert port(*words).code == 0
    models = here / "my_models.py"
    edited = MODELS.replace("nn.Sequential(Shuffling(), ", "nn.Sequential(")
    models.write_text(edited, encoding="utf-8")
    sys.modules.pop("my_models")
    done = port(*words, "--overwrite")
    assert done.code == 0, done.err


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_half_precision_are_taken(here: Path, port: Run, dtype: str) -> None:
    import torch
    from my_models import Half  # type: ignore[import-not-found]

    torch.save(Half().to(getattr(torch, dtype)).state_dict(), "half.bin")
    done = port("my_models:Half", "--input", "2x6x4", "--output", "net", "--weights", "half.bin")
    assert done.code == 0, done.out + done.err
    table = (here / "net" / "half_mlx" / "family.py").read_text(encoding="utf-8")
    assert '*each(affine("norm{i}", "norm{i}"), i=range(1, 3))' in table


def test_what_people_edited_is_not_written_over(here: Path, port: Run) -> None:
    (here / "net").mkdir()
    (here / "net" / "README.md").write_text("mine", encoding="utf-8")
    done = port("my_models:Net", "--output", "net")
    assert done.code == 2
    assert "net/README.md exists" in done.err
    assert (here / "net" / "README.md").read_text(encoding="utf-8") == "mine"


def test_an_operation_without_a_form_is_marked_where_it_stands(here: Path, port: Run) -> None:
    done = port("my_models:Odd", "--output", "odd", "--input", "2x6x4")
    assert done.code == 1
    assert "1 operation has no form in MLX yet" in done.err
    code = (here / "odd" / "odd_mlx" / "network.py").read_text(encoding="utf-8")
    assert "# TODO: not written yet, the original has:" in code
    assert "torch.cdist(self.linear(x), x)" in code


def test_a_size_is_followed_whether_it_is_even_or_odd(here: Path, port: Run) -> None:
    words = ["my_models:Striding", "--args", '{"mode": "true or false"}', "--input", "2x6x40"]
    done = port(*words, "--output", "net")
    assert done.code == 0, done.out + done.err
    code = (here / "net" / "striding_mlx" / "network.py").read_text(encoding="utf-8")
    assert "return mx.array(0.5), " in code
    assert "y.shape[1] - 1" in code
    sound = inputs.Inputs((inputs.Input("x", ("T",)),), {"T": 40})
    assert {len(x) % 2 for (x,) in inputs.runs(sound)} == {0, 1}


def test_sizes_that_are_said_states_and_names_that_mlx_has_otherwise(here: Path, port: Run) -> None:
    shapes = ["--input", "B2xT9x6", "--input", "lengths=B:int64=T", "--input", "h=1xBx8"]
    done = port("my_models:Streaming", *shapes, "--output", "net")
    assert done.code == 0, done.out + done.err
    assert "free sizes B, T\n" in done.out
    code = (here / "net" / "streaming_mlx" / "network.py").read_text(encoding="utf-8")
    assert "self.first = nn.Linear(6, 8)" in code
    assert "self.keys_ = Held()" in code
    assert "y, h = self.rnn.states(mx.tanh(" in code
    assert "self.attn(y, key_padding_mask=unseen)" in code
    assert "y[..., 2:4] + mx.exp(self.keys_.log)" in code
    assert code.count("y[:, :, 2:4] = ") == 1
    table = (here / "net" / "streaming_mlx" / "family.py").read_text(encoding="utf-8")
    assert 'Rule("keys._log", "keys_.log")' in table


def test_layers_in_turn_are_turned_to_one_another(here: Path, port: Run) -> None:
    done = port("my_models:Turns", "--input", "2x6x9", "--output", "net")
    assert done.code == 0, done.out + done.err
    code = (here / "net" / "turns_mlx" / "network.py").read_text(encoding="utf-8")
    assert "self.blocks[1](self.blocks[0](self.first(x).swapaxes(1, 2)).swapaxes(1, 2))" in code


def test_a_size_that_the_code_loops_over_stays_as_it_is(here: Path, port: Run) -> None:
    done = port("my_models:Stepping", "--input", "2x5x4", "--output", "net")
    assert done.code == 0, done.out + done.err
    assert "free sizes B\n" in done.out
    code = (here / "net" / "stepping_mlx" / "network.py").read_text(encoding="utf-8")
    assert '"""(B, 5, 4) -> (B, 4)."""' in code


def test_no_file_of_a_package_is_written_over(here: Path, port: Run) -> None:
    (here / "net" / "net_mlx").mkdir(parents=True)
    (here / "net" / "net_mlx" / "family.py").write_text("mine", encoding="utf-8")
    done = port("my_models:Net", "--input", "2x16x50", "--output", "net")
    assert done.code == 2
    assert "family.py exists" in done.err
    assert [one.name for one in (here / "net").rglob("*") if one.is_file()] == ["family.py"]


def test_weights_of_another_shape_are_one_line(here: Path, port: Run) -> None:
    import torch
    from my_models import Net

    torch.save(Net(classes=7).state_dict(), "seven.bin")
    done = port("my_models:Net", "--input", "2x16x50", "--output", "net", "--weights", "seven.bin")
    assert done.code == 2
    assert "head.2." in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_draft_is_the_table_and_the_layers(here: Path, port: Run) -> None:
    done = port("my_models:Net", "--output", "net", "--input", "2x16x50", "--draft")
    assert done.code == 0, done.err
    assert "| `first.layer1.conv` | `Conv1d` | `nn.Conv1d(16, 8, 3, padding=1)` |" in (
        here / "net" / "layers.md"
    ).read_text(encoding="utf-8")
    assert not (here / "net" / "net_mlx" / "network.py").exists()


@pytest.mark.long
def test_a_clone_takes_a_port_into_its_three_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("converters", "models", "parity", "reports", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    (tmp_path / "my_models.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = ["port", "my_models:Turns", "--input", "2x6x9", "--into", "."]
    done = command(tmp_path / "src", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("models/networks/turns.py: Turns, ")
    rooms = ("converters/families", "models/networks", "parity/originals")
    assert all((tmp_path / room / "turns.py").is_file() for room in rooms)
    again = ["convert", "reference:Turns", "--mlx-path", "bundle", "--quiet"]
    assert command(tmp_path / "src", *again).returncode == 0
    assert (tmp_path / "tests" / "parity" / "test_turns.py").is_file()
    # A second time it is somebody's code, and elsewhere it would be nobody's family.
    assert "turns.py exists" in command(tmp_path / "src", *words).stderr
    assert "it runs from " in command(None, *words).stderr
    # What samevoice has under that name itself stays.
    words[1:2] = ["my_models:CAMPPlus"]
    done = command(tmp_path / "src", *words, "--overwrite")
    assert done.stdout.startswith("models/networks/campplus_port.py: CAMPPlusPort, "), done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no_such_module:Net"], "no_such_module cannot be imported"),
        (["my_models:Nobody"], "my_models has no 'Nobody'"),
        (["my_models"], "a module and a class are wanted"),
        (["my_models:Net", "--name", 'a"b'], "a name of letters, digits and _ is wanted"),
        (["my_models:Net", "--args", '{"layers": 3}'], "cannot be built with {'layers': 3}"),
        (["my_models:Net", "--args", "layers"], "--args is no JSON"),
        (["my_models:Net", "--input", "2x16"], "it does not take x (2x16)"),
        (["my_models:Net", "--input", "two"], "a shape is wanted"),
        (["my_models:Net", "--input", "2x16xT"], "how large is T? Say it once, as in T200"),
        (["my_models:Choosy", "--input", "2x6x4"], "depends on the values that it is fed, at "),
        (["my_models:Dicing", "--input", "2x6x4"], "it gives something else each time"),
        (["my_models:Keeping", "--input", "2x6x4"], "or it keeps a state"),
        (["my_models:Net", "--into", "."], "either --output DIR for a package, or --into CLONE"),
        (["my_models:Net", "--input", "2x16x50", "--weights", "nothing.pt"], "nothing.pt"),
    ],
)
def test_what_cannot_be_ported_is_one_line(port: Run, words: list[str], said: str) -> None:
    done = port(*words, "--output", "out")
    assert done.code == 2, done.out + done.err
    (line,) = [one for one in done.err.strip().splitlines() if one.startswith("samevoice:")]
    assert said in line


# Loops --------------------------------------------------------------------------------------------

calls = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3), st.integers(0, 2)), max_size=14
)


@given(calls)
def test_a_loop_does_what_its_lines_did(made: list[tuple[str, int, int]]) -> None:
    lines = [[f"note(self.{name}[{index}], ", Number(number), ")"] for name, index, number in made]
    assert _done(lines) == _done(rolled(lines)) == made


def _done(lines: list[list[object]]) -> list[tuple[str, int, int]]:
    seen: list[tuple[str, int, int]] = []

    class Self:
        a, b = ([(name, k) for k in range(9)] for name in "ab")

    code = "\n".join("".join(map(str, line)) for line in lines)
    exec(code, {"self": Self, "note": lambda one, number: seen.append((*one, number))})
    return seen


def test_lines_that_count_up_are_a_loop() -> None:
    lines = [[f"x = self.layers[{n}](x)"] for n in range(5)]
    assert [
        ["for n in range(", Number(5, "count"), "):"],
        ["    ", "x = self.layers[", "n", "](x)"],
    ] == (rolled(lines))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3).map(tuple),
    )
)
def test_a_constant_reads_as_it_was(value: object) -> None:
    assert eval(literal(value)) == value
