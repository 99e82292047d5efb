"""What a folder, a file or a reference is taken for, and what is said when it is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samevoice.converters import reference
from samevoice.converters.reading.licences import Licence, licence_in
from samevoice.converters.reading.sources import Source, locate
from samevoice.errors import SourceError

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """put({"a/b.bin": "text"}) writes files below a folder named "here" and returns it."""

    def write(files: dict[str, str | bytes]) -> Path:
        root = tmp_path / "here"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write


def index(*shards: str) -> str:
    return json.dumps({"weight_map": {f"tensor.{i}": name for i, name in enumerate(shards)}})


def refusal(source: str | Path, **options: str) -> str:
    with pytest.raises(SourceError) as caught:
        locate(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


PIPELINE = "pipeline:\n  name: pyannote.audio.pipelines.SpeakerDiarization\n"
MODEL = "model:\n  _target_: pyannote.audio.models.segmentation.PyanNet\n"
A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
OWN = Licence("mit", gated=False)


# --- what is found ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holds", "files"),
    [
        ({"pytorch_model.bin": "x"}, ("pytorch_model.bin",)),
        ({"model.safetensors": "x"}, ("model.safetensors",)),
        ({"model.safetensors": "x", "pytorch_model.bin": "x"}, ("pytorch_model.bin",)),
        ({"pytorch_model.bin": "x", "training_args.bin": "x"}, ("pytorch_model.bin",)),
        ({"epoch=3.ckpt": "x", "README.md": "x", "config.yaml": MODEL}, ("epoch=3.ckpt",)),
        ({"weights.PT": "x"}, ("weights.PT",)),
        ({"embedding_model.ckpt": "x", "classifier.ckpt": "x"}, ("embedding_model.ckpt",)),
        ({INDEX: index(B, A), A: "x", B: "x"}, (A, B, INDEX)),
        ({INDEX: index(A), A: "x", "pytorch_model.bin": "x"}, (A, INDEX)),
        (
            {"pytorch_model.bin.index.json": index("parts/1.bin"), "parts/1.bin": "x"},
            ("parts/1.bin", "pytorch_model.bin.index.json"),
        ),
        ({"plda.npz": "x", "xvec_transform.npz": "x"}, ("plda.npz", "xvec_transform.npz")),
        ({"config.yaml": PIPELINE, "pytorch_model.bin": "x"}, ("config.yaml",)),
        ({"config.yaml": MODEL, "pytorch_model.bin": "x"}, ("pytorch_model.bin",)),
        ({"config.yaml": "", "pytorch_model.bin": "x"}, ("pytorch_model.bin",)),
        ({"config.json": '{"model_type": "x"}', "model.safetensors": "x"}, ("model.safetensors",)),
    ],
)
def test_a_folder_is_known_by_what_it_holds(
    put: Put, holds: dict[str, str], files: tuple[str, ...]
) -> None:
    root = put(holds)
    assert locate(root) == Source("folder", "here", root, files, None)
    assert locate(str(root)) == locate(root)


def test_a_folder_has_its_name_from_inside_too(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(put({"pytorch_model.bin": "x"}))
    assert locate(".").name == "here"


def test_a_subfolder_becomes_the_root(put: Put) -> None:
    root = put({"config.yaml": PIPELINE, "segmentation/pytorch_model.bin": "x"})
    for given in ("segmentation", "segmentation/", "./segmentation"):
        assert locate(root, subfolder=given) == Source(
            "folder", "here", root / "segmentation", ("pytorch_model.bin",), None, "segmentation"
        )
    assert locate(root, subfolder="").files == ("config.yaml",)


@pytest.mark.parametrize("name", ["a.bin", "a.pt", "a.pth", "a.ckpt", "a.safetensors", "A.CKPT"])
def test_a_checkpoint_file_stands_for_itself(put: Put, name: str) -> None:
    root = put({name: "x", "other.bin": "x"})
    assert locate(root / name) == Source("file", name, root, (name,), None)


def test_a_file_brings_the_set_it_belongs_to(put: Put) -> None:
    root = put({"i.index.json": index(A), A: "x", "config.yaml": PIPELINE})
    put({"plda.npz": "x", "xvec_transform.npz": "x"})
    assert locate(root / "i.index.json").files == ("i.index.json", A)
    assert locate(root / "config.yaml").files == ("config.yaml",)
    for name in ("plda.npz", "xvec_transform.npz"):
        assert locate(root / name).files == ("plda.npz", "xvec_transform.npz")
    assert locate(root / "plda.npz").name == "plda.npz"


def test_a_path_that_exists_wins_over_the_hub(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(put({"pyannote/segmentation-3.0/pytorch_model.bin": "x"}))
    assert locate("pyannote/segmentation-3.0").kind == "folder"


def test_the_home_folder_may_be_a_tilde(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(put({"a.bin": "x"}).parent))
    assert locate("~/here/a.bin").files == ("a.bin",)


# --- the references -----------------------------------------------------------------------------


@pytest.fixture
def references(put: Put, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = put({"config.yaml": PIPELINE, "plda/plda.npz": "x", "plda/xvec_transform.npz": "x"})
    monkeypatch.setattr(reference, "build", {"full": root}.__getitem__)
    return root


def test_a_reference_is_built_and_then_read_as_a_folder(references: Path) -> None:
    assert locate("reference:full") == Source(
        "reference", "reference:full", references, ("config.yaml",), None, None, OWN
    )
    part = locate("reference:full", subfolder="plda")
    assert (part.kind, part.root, part.subfolder) == ("reference", references / "plda", "plda")
    assert part.licence == OWN


def test_an_unknown_reference_names_the_nearest_and_what_lists_the_rest() -> None:
    assert refusal("reference:camplus/small") == (
        "there is no 'reference:camplus/small': choose one of reference:segmentation, "
        "reference:embedding, reference:full, reference:ARCHITECTURE or "
        "reference:ARCHITECTURE/small; nearest is CAMPPlus; "
        "samevoice models --references lists those architectures"
    )


@pytest.mark.parametrize("word", ["CAMPPlus/large", "CAMPPlus/", "full/small", "PLDA", "../full"])
def test_shapes_and_architectures_that_no_reference_has(word: str) -> None:
    assert "there is no" in refusal(f"reference:{word}")


# --- the licence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# Text\n", Licence("mit")),
        ("\ufeff---\r\nlicense: 'cc-by-4.0'\r\n---\r\n", Licence("cc-by-4.0")),
        ("---\nlicense: [mit, apache-2.0, mit]\n---\n", Licence("apache-2.0, mit")),
        ("---\nlicense:\n- mit\n---", Licence("mit")),
        (
            "---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE.md\n---\n",
            Licence("other", name="own", link="LICENSE.md"),
        ),
        ("---\nlicense: other\nlicense_name: {a: b}\nlicense_link: 7\n---\n", Licence("other")),
        ('---\nlicense: other\nlicense_name: "a\\nb"\n---\n', Licence("other")),
    ],
)
def test_a_card_names_the_licence(put: Put, card: str, licence: Licence) -> None:
    root = put({"pytorch_model.bin": "x", "README.md": card})
    assert locate(root).licence == licence


@pytest.mark.parametrize(
    "card",
    [
        "",
        "# Text\nlicense: mit\n",
        "---\nlicense: mit\n",  # it never ends
        "---\nlicense: mit\nx: y\f---\fz\n",
        "---\u2028license: mit\u2028---\n",
        "text\n---\nlicense: mit\n---\n",
        "---\ntags: [mit]\n---\n",
        "---\nlicense: no\n---\n",  # a boolean
        "---\nlicense: 4.0\n---\n",
        "---\nlicense:\n---\n",
        "---\nlicense: [mit, 7]\n---\n",
        "---\nlicense: [mit, [mit]]\n---\n",
        "---\nlicense: []\n---\n",
        "---\nlicense: {a: mit}\n---\n",
        "---\nlicense: 'mit\n\n  and a whole text'\n---\n",
        "---\nlicense: " + "x" * 100 + "\n---\n",
        "---\n- license: mit\n---\n",
        "---\n[license, mit]: mit\n---\n",
        "---\nlicense: mit\nx: [\n---\n",
        "---\nlicense: mit\nx: *nobody\n---\n",
        "---\nlicense: mit\n\tx: y\n---\n",
        "---\nlicense: mit\n---\n".encode("utf-16"),
        b"---\nlicense: \xff\xfe\n---\n",
        b"---\nlicense: mit\0\n---\n",
        "---\nlicense: mit\nx: " + "[" * 50_000 + "\n---\n",
        "---\n" + "x: y\n" * 20_000 + "license: mit\n---\n",
        b"\0" * (1 << 20),
    ],
)
def test_a_card_that_says_nothing_clear(put: Put, card: str | bytes) -> None:
    assert locate(put({"pytorch_model.bin": "x", "README.md": card})).licence is None


def test_merges_in_a_card_do_not_multiply(put: Put) -> None:
    layers = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 30)]
    card = "\n".join(["---", "a0: &a0 {x: y}", *layers, "license: mit", "---", ""])
    assert locate(put({"pytorch_model.bin": "x", "README.md": card})).licence == Licence("mit")


def test_the_licence_of_a_pipeline_goes_for_its_folders(put: Put) -> None:
    mit, other = "---\nlicense: mit\n---\n", "---\nlicense: gpl-3.0\n---\n"
    root = put(
        {"config.yaml": PIPELINE, "README.md": mit, "seg/a.bin": "x", "seg/README.md": other}
    )
    assert locate(root).licence == locate(root, subfolder="seg").licence == Licence("mit")
    assert locate(root / "config.yaml").licence == Licence("mit")
    assert locate(root / "seg").licence == Licence("gpl-3.0")
    assert locate(root / "seg" / "a.bin").licence is None


def test_a_card_is_not_followed_out_of_the_folder(put: Put) -> None:
    root = put({"pytorch_model.bin": "x", "real.md": "---\nlicense: mit\n---\n"})
    (root / "README.md").symlink_to("real.md")
    assert locate(root).licence == Licence("mit")
    (root / "real.md").rename(root.parent / "real.md")
    (root / "README.md").unlink()
    (root / "README.md").symlink_to("../real.md")
    assert locate(root).licence is None
    (root / "README.md").unlink()
    os.mkfifo(root / "README.md")
    assert locate(root).licence is None


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holds", "says"),
    [
        ({}, "found nothing at all"),
        ({"README.md": "x", "sub/pytorch_model.bin": "x"}, "found README.md, sub/"),
        ({"pytorch_model.bin/x": "x"}, "found pytorch_model.bin/"),
        ({f"{i:02}.txt": "x" for i in range(13)}, "08.txt, 09.txt and 3 more"),
        ({"a.pt": "x", "b.ckpt": "x"}, "2 checkpoint files in folder '{}', found a.pt, b.ckpt: "),
        ({INDEX: index(A, B), B: "x"}, f"1 of 2 shards that {INDEX} names are missing"),
        ({INDEX: index(A, B), B: "x"}, f"first '{A}'"),
        ({INDEX: "{"}, f"{INDEX} in folder '{{}}' is no JSON object"),
        ({INDEX: b"\xff\xfe"}, "is no JSON object"),
        ({INDEX: "[" * 100_000}, "is no JSON object"),
        ({INDEX: "{}"}, "has no weight_map"),
        ({INDEX: '{"weight_map": {}}'}, "has no weight_map"),
        ({INDEX: '{"weight_map": {"a": 1}}'}, "names a shard outside of folder '{}': 1:"),
        ({"plda.npz": "x"}, "'xvec_transform.npz' is missing"),
        ({"xvec_transform.npz": "x"}, "'plda.npz' is missing"),
        ({"config.yaml": "a: [", "a.bin": "x"}, "no readable YAML (ParserError)"),
        ({"config.yaml": "!!python/object/apply:os.getcwd []"}, "no readable YAML (it has tags)"),
        (
            {"config.yaml": "a: &a [x]\npipeline: *a"},
            "no readable YAML (it has anchors or aliases)",
        ),
        ({"config.yaml": "[" * 1_000}, "no readable YAML"),
        ({"config.yaml": b"\xff\xfe\xfd"}, "no readable YAML (UnicodeDecodeError)"),
        ({"pytorch_model.bin": ""}, "pytorch_model.bin in folder '{}' is empty (0 bytes)"),
        ({"plda.npz": "", "xvec_transform.npz": "x"}, "plda.npz in folder '{}' is empty"),
        ({INDEX: index(A), A: ""}, f"{A} in folder '{{}}' is empty"),
        (
            {"pytorch_model.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"},
            "pytorch_model.bin in folder '{}' is a Git LFS pointer",
        ),
    ],
)
def test_a_folder_is_refused(put: Put, holds: dict[str, str | bytes], says: str) -> None:
    root = put(holds)
    assert says.format(root) in refusal(root)


def test_nothing_recognised_says_what_was_looked_for(put: Put) -> None:
    text = refusal(put({"notes.txt": "x"}))
    for name in ("config.yaml", INDEX, "pytorch_model.bin", ".ckpt", "plda.npz", "notes.txt"):
        assert name in text


@pytest.mark.parametrize(
    "name", ["../a.bin", "/etc/passwd", "sub/../../a.bin", "..\\a.bin", "C:a.bin", "a\0.bin", ""]
)
def test_an_index_may_not_name_what_lies_outside(put: Put, name: str) -> None:
    root = put({INDEX: index(A, name), A: "x"})
    (root.parent / "a.bin").write_bytes(b"x")
    assert f"names a shard outside of folder '{root}': {name!r}" in refusal(root)
    assert "names a shard outside" in refusal(root / INDEX)


def test_an_index_may_not_reach_out_through_a_link(put: Put) -> None:
    root = put({INDEX: index(A)})
    (root.parent / "secret").write_bytes(b"x")
    (root / A).symlink_to("../secret")
    assert f"names a shard outside of folder '{root}': '{A}'" in refusal(root)


def test_links_inside_the_folder_and_a_linked_folder_are_fine(put: Put) -> None:
    root = put({INDEX: index(A), "real": "x"})
    (root / A).symlink_to("real")
    (root.parent / "alias").symlink_to(root)
    assert locate(root.parent / "alias").files == (A, INDEX)


def test_a_snapshot_in_the_cache_of_the_hub_links_to_its_blobs(tmp_path: Path) -> None:
    repo = tmp_path / "models--org--model"
    root = repo / "snapshots" / ("a" * 40) / "part"
    root.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for name, text in ((A, "x"), (INDEX, index(A))):
        (repo / "blobs" / name).write_text(text)
        (root / name).symlink_to(f"../../../blobs/{name}")
    assert locate(root).files == (A, INDEX)


@pytest.mark.parametrize("marks", [("provenance.json",), ("segmentation/provenance.json",)])
def test_a_bundle_is_not_converted_twice(put: Put, marks: tuple[str, ...]) -> None:
    root = put({"config.json": '{"model_type": "pyannet"}', **dict.fromkeys(marks, "{}")})
    put({INDEX: index("model.safetensors"), "model.safetensors": "x"})
    says = "is already a samevoice bundle: inspect it, or turn it back with samevoice export"
    assert refusal(root) == f"folder '{root}' {says}"
    assert says in refusal(root / "model.safetensors")
    assert says in refusal(root / INDEX)


@pytest.mark.parametrize(
    "name", ["a.txt", "a", "config.json", "other.yaml", "scores.npz", ".bin", "a.index"]
)
def test_a_file_is_refused_by_its_name(put: Put, name: str) -> None:
    text = refusal(put({name: "{}"}) / name)
    for suffix in (".bin", ".pt", ".pth", ".ckpt", ".safetensors", "index.json", "config.yaml"):
        assert suffix in text
    assert repr(name) in text


def test_a_config_file_must_be_that_of_a_pipeline(put: Put) -> None:
    assert "has no `pipeline` key" in refusal(put({"config.yaml": MODEL}) / "config.yaml")


def test_an_empty_file_and_a_lone_half_of_a_plda(put: Put) -> None:
    assert "is empty (0 bytes)" in refusal(put({"a.ckpt": ""}) / "a.ckpt")
    assert "'plda.npz' is missing" in refusal(
        put({"xvec_transform.npz": "x"}) / "xvec_transform.npz"
    )


@pytest.mark.parametrize(
    "word", ["nowhere", "./a/b", "a/b/c", "org/na--me", "x\0y", "ö/ü", "~nobody"]
)
def test_what_does_not_exist(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(word).startswith(f"no such file or folder, and not a hub id: {word!r}: ")


@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_source(word: str) -> None:
    assert refusal(word).startswith("the source is empty")


def test_a_link_to_nothing_and_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe.bin")
    assert "is a link to nothing" in refusal(tmp_path / "link")
    assert "is neither a file nor a folder" in refusal(tmp_path / "pipe.bin")


def test_flags_that_do_not_fit(put: Put, references: Path) -> None:
    root = put({"a.bin": "x"})
    for source in (root, root / "a.bin", "reference:full"):
        assert "--revision 'main' goes with a hub id only" in refusal(source, revision="main")
    assert "is a file and has no subfolder 'x'" in refusal(root / "a.bin", subfolder="x")
    assert "has no folder 'x': found a.bin" in refusal(root, subfolder="x")
    for out in ("..", "a/../..", "/etc"):
        assert f"the subfolder {out!r} leads out" in refusal(root, subfolder=out)
    for wrong in ("", "../../x", "/x", "a b", "a~1"):
        assert f"{wrong!r} is no revision" in refusal("org/model", revision=wrong)


def test_what_may_not_be_read(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put({"a.bin": "x", "config.yaml": PIPELINE, "README.md": "---\nlicense: mit\n---\n"})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(root))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert refusal(root / "a.bin").startswith("cannot read a.bin in folder")
        assert refusal(root).startswith("cannot read config.yaml in folder")
        assert licence_in(root) is None
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert refusal(root).startswith(f"cannot list folder '{root}' (Permission denied)")


def test_local_sources_need_neither_torch_nor_the_hub(put: Put) -> None:
    root = put({"a.bin": "x"})
    code = (
        "import sys; from samevoice.converters.reading.sources import locate; "
        f"locate({str(root)!r}); "
        "print({'torch', 'pyannote', 'huggingface_hub'} & {m.split('.')[0] for m in sys.modules})"
    )
    src = Path(__file__).parents[2] / "src"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(src)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (run.stdout, run.stderr) == ("set()\n", "")
