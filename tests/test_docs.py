"""README and docs say what is true: their blocks run, and print what the pages show.

A page is followed from top to bottom in a folder of its own, with the blocks as they stand, and
``samevoice`` on PATH. Hub ids are served by a hub on this machine, from the reference checkpoints.
What is set before a page starts stands in ``SETTINGS``, what is not run in ``NOT_RUN``, each with
its reason.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import doc_pages
import made_up
import numpy as np
import pytest
import soundfile
import typer
from doc_pages import ROOT, Block, Command, Page, bare, blocks, commands, same
from hub import Hub
from made_up import save, shaken

import samevoice
from samevoice.cli import app
from samevoice.converters.recipe import Recipe
from samevoice.converters.reference import sample

TOKEN = "hf_" + "aTokenThatMustNeverShowAnywhere"
NETWORKS = {
    "pyannote/segmentation-3.0": "segmentation",
    "pyannote/wespeaker-voxceleb-resnet34-LM": "embedding",
    "pyannote/speaker-diarization-community-1": "full",
}
COMPARED = "minutes of two networks; tests/parity compares the same"
SPOILT = "spoils a large network forty times; tests/parity/test_gallery.py does it"
# A command that is only parsed: its first words, or all with the line's end, and why.
NOT_RUN = {
    "samevoice parity out/full --source reference:full": COMPARED,
    "samevoice parity segmentation-3.0": "the same weights were compared a few lines above",
    "samevoice gate segmentation-3.0-parity": "there is no result, as they were not compared again",
    "samevoice parity seg --source $SOURCE": "docs/ci.md does it with a small network",
    "samevoice replay seg --golden": "docs/ci.md does it with a small network",
    "samevoice parity bundle --source pyannote/speaker-diarization-community-1": COMPARED,
    "samevoice gate moved": "there is no evaluation; test_the_upgrades_run has a small one",
    "samevoice gate new": "tests/cli/test_baseline.py does it",
    "samevoice speakers enroll Ana ana.wav --model community-1": (
        "made-up weights hear nobody alone; docs/speakers.md does it"
    ),
    "samevoice parity segmentation --source reference:segmentation --output proof": (
        "README.md's comparison under another name, which SETTINGS put there"
    ),
    "samevoice parity release --source": "the same once more",
    "samevoice diarize archive/": "there is no archive; tests/cli/test_diarize_many.py has one",
    "samevoice evaluate": "needs recordings with references; tests/cli/test_evaluate.py has some",
    "samevoice report meetings-evaluation": "tests/cli/test_report_evaluations.py has such",
    "samevoice score": "needs the same; tests/cli/test_evaluate.py has them",
    "samevoice gate meetings-evaluation": "needs such; tests/cli/test_gate_corpus.py does it",
    "samevoice precision": "rounds a network seventy times; tests/cli/test_precision.py does it",
    "samevoice convert open:diarization --recipe": "there is no recipe, as none was looked for",
    "samevoice tune": "needs recordings with references; tests/cli/test_tune.py has some",
    "samevoice release seg --result": "seg was not compared; docs/releasing.md does it",
    "samevoice release half": "needs an evaluation; tests/release/test_corpora.py makes one",
    "samevoice release exact": "needs one, too; tests/release/test_whole.py makes it",
    "samevoice verify out/seg-release": "docs/releasing.md does it",
    "samevoice gallery\n": SPOILT,
    "samevoice gallery --prove": SPOILT,
    "samevoice gallery reference:segmentation": SPOILT,
    "samevoice parity BUNDLE --source SOURCE --fast": (
        "runs pyannote on recordings of one's own; tests/parity/test_diarization.py does it"
    ),
    "samevoice convert rewayai/suplime": "tests/converters/test_hub_convert.py does it",
    "samevoice parity suplime --source": "tests/parity/pipeline/test_suplime.py does it",
    "samevoice diarize meeting.wav --model rewayai/suplime": "minutes of a large network",
    "samevoice diarize meeting.wav --model suplime-large": "the same",
    "samevoice convert reference:SuplimeSegmentation --dtype": "minutes of a large network",
    "samevoice parity half --source": "the same",
    "samevoice convert reference:SpeechBrainECAPA --dtype": "minutes of a large network",
    "samevoice parity ecapa16 --source": "the same",
    "samevoice parity ecapa --source": "minutes; tests/parity/test_ecapa.py has a small shape",
    "samevoice gallery reference:SpeechBrainECAPA/small": SPOILT,
    "samevoice bench": "takes minutes to hours; tests/cli/test_bench.py does it on a small network",
}


@dataclass(frozen=True)
class Around:
    """What all pages share: a hub, the table of what has run, the reference bundles."""

    hub: Hub
    table: Path
    commands: Path  # the folder that has `samevoice`
    references: dict[str, Path]
    narrow: Path
    home: Path
    server: str

    def page(self, folder: Path) -> Page:
        folder.mkdir()
        venv = str(Path(sys.executable).parent)
        path = os.pathsep.join([str(self.commands), venv, os.environ["PATH"]])
        shared = {"SAMEVOICE_DOC_TABLE": str(self.table), "SAMEVOICE_DOC_SERVER": self.server}
        return Page(folder, {**surroundings(self.home, self.hub), "PATH": path, **shared})


def surroundings(home: Path, hub: Hub) -> dict[str, str]:
    """The environment, with nothing in it that belongs to whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "SAMEVOICE_"))}
    return {
        **kept,
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",  # which this hub does not offer
        "SAMEVOICE_CACHE": os.environ["SAMEVOICE_CACHE"],
        "PYANNOTE_METRICS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore",
        "BROWSER": "true",  # opens nothing, and says that it went well
        "COLUMNS": "80",
    }


@contextmanager
def serving(address: Path, env: Mapping[str, str]) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "tests" / "doc_server.py"), "serve", str(address)]
    with subprocess.Popen(command, env=dict(env), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        try:
            yield str(address)
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def around(
    references: dict[str, Path], narrow_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Around]:
    place = tmp_path_factory.mktemp("around")
    (place / "table").mkdir()
    (place / "bin").mkdir()
    shim = place / "bin" / "samevoice"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/doc_shim.py" "$@"\n')
    shim.chmod(0o755)
    trained = {kind: unmarked(path, place / kind) for kind, path in references.items()}
    with Hub({name: files(trained[kind]) for name, kind in NETWORKS.items()}) as hub:
        home = place / "home"
        home.mkdir()
        # A short path: an address has room for a hundred letters.
        with (
            tempfile.TemporaryDirectory() as short,
            serving(Path(short) / "s", surroundings(home, hub)) as server,
        ):
            yield Around(
                hub, place / "table", place / "bin", references, narrow_bundle, home, server
            )


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def unmarked(reference: Path, target: Path) -> Path:
    """The same weights without the note that they are made up: as people have theirs."""
    import torch

    shutil.copytree(reference, target)
    for path in target.rglob("*.bin"):
        content = torch.load(path, weights_only=False)
        del content["samevoice"]
        torch.save(content, path)
    for path in target.rglob("*.npz"):
        arrays = {name: array for name, array in np.load(path).items() if name != "note"}
        np.savez(path, **arrays)
    return target


# What a page takes for granted --------------------------------------------------------------------


def of_the_readme(page: Page, around: Around) -> None:
    """A whole pipeline, a bundle with one bias off, and a recording."""
    samevoice.convert(around.references["full"], page.folder / "out" / "full")
    page.step("samevoice convert reference:segmentation --mlx-path out/segmentation")
    spoiling = next(x for x in blocks(ROOT / "docs/first-port.md") if '"spoilt"' in x.text)
    assert page.python(spoiling.text, "first-port.md", spoiling.line).code == 0
    shutil.rmtree(page.folder / "out" / "segmentation")  # which the page makes itself
    record(page.folder / "meeting.wav", 12, 15)
    (page.folder / "out" / "gallery.json").write_text(a_gallery())
    for name in ("torch", "mlx"):
        np.savez(page.folder / f"{name}.npz", layer=np.ones((2, 3), np.float32))


def record(path: Path, start: float, end: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sample()[int(start * 16_000) : int(end * 16_000)], 16_000)


def of_speakers(page: Page, around: Around) -> None:
    """A small pipeline that hears one voice all the time, and recordings of two people."""
    one_voice(around.narrow, page.folder / "full")
    page.env["SAMEVOICE_SPEAKERS"] = "voices"
    # Much the same three seconds for each: to weights that were never trained that is a voice.
    for name, start in {
        "ana-1": 16.0,
        "ana-2": 16.2,
        "bob/1": 25.0,
        "bob/2": 25.2,
        "meeting": 16.6,
        "ana": 16.4,
        "a": 16.8,
        "b": 17.0,
        "c": 25.4,
        "d": 25.6,
    }.items():
        record(page.folder / f"{name}.wav", start, start + 3)
    for name, person in {"a": "Ana", "b": "Ana", "c": "Bob", "d": "Bob"}.items():
        (page.folder / "recordings" / person).mkdir(parents=True, exist_ok=True)
        shutil.copy(page.folder / f"{name}.wav", page.folder / "recordings" / person)


def of_recordings(page: Page, around: Around) -> None:
    """A small pipeline, and a recording."""
    shutil.copytree(around.narrow, page.folder / "full")
    record(page.folder / "meeting.wav", 12, 15)


def of_models(page: Page, around: Around) -> None:
    """Recordings for trained weights: whoever speaks is heard."""
    record(page.folder / "meeting.wav", 12, 15)
    record(page.folder / "ana.wav", 21.8, 27.8)


def one_voice(narrow: Path, target: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(narrow, target)
    file = target / "segmentation" / "model.safetensors"
    weights = load_file(file)
    weights["classifier.bias"][1] += 1e6  # class 1: the first speaker alone
    save_file(weights, file, {"format": "mlx"})
    made_up.record(target)


def of_reports(page: Page, around: Around) -> None:
    """Results of every kind, as `make parity` and the gallery leave them."""
    import made_evaluation
    from made_results import judged, taps_of

    from samevoice.evaluation.systems import Written
    from samevoice.parity import gallery_file
    from samevoice.parity.limits import Family
    from samevoice.parity.result import write

    families: tuple[tuple[str, Family], ...] = (
        ("out/parity/segmentation", "segmentation"),
        ("out/parity/embedding", "embedding"),
        ("float32", "segmentation"),
        ("float16", "segmentation"),
    )
    for place, family in families:
        write(page.folder / place / "result.json", judged(taps_of(family), family=family))
    (page.folder / "out" / "gallery.json").write_text(gallery_file.written({}, {}))
    page.env["GITHUB_STEP_SUMMARY"] = str(page.folder / "summary.md")
    for run in ("2026-11-20", "2026-11-27"):
        made_evaluation.write(
            page.folder / "runs" / run / "evaluation.json", Written("full", {}, {})
        )


def of_releasing(page: Page, around: Around) -> None:
    """The results of README.md's comparison with a gallery, and again with a limit loosened."""
    from made_release import rejudged

    from samevoice.parity.result import read as read_result
    from samevoice.parity.result import write

    assert page.step(compared("reference:segmentation", "out/segmentation")).code == 0
    for name in ("proof", "loose"):
        shutil.copytree(page.folder / "out" / "segmentation-parity", page.folder / name)
        (page.folder / name / "gallery.json").write_text(a_gallery())
    loose = page.folder / "loose" / "result.json"
    write(loose, rejudged(read_result(loose), "noise_ratio=30"))
    page.env["HF_TOKEN"] = TOKEN


def a_gallery() -> str:
    """What `samevoice gallery reference:segmentation` finds: all bugs, and what a softmax costs."""
    from made_release import CONFIGS, all_found

    from samevoice.parity import gallery_file
    from samevoice.parity.identity import versions

    lstm = {"hidden_size": 128, "num_layers": 4, "bidirectional": True}
    found = all_found("segmentation", CONFIGS["segmentation"] | {"lstm": lstm})
    found += [replace(found[0], bug=f"between layers {n}") for n in range(6)]
    found += [replace(found[0], bug=f"softmax in {dtype}") for dtype in ("float32", "float16")]
    return gallery_file.written({"reference:segmentation": found}, versions())


def compared(source: str, bundle: str) -> str:
    """The commands as README.md has them, so that they run once for both."""
    return (
        f"samevoice convert {source} --mlx-path {bundle}\n"
        f"samevoice parity {bundle} --source {source}"
    )


SETTINGS: dict[str, Callable[[Page, Around], None]] = {
    "README.md": of_the_readme,
    "speakers.md": of_speakers,
    "index.md": of_recordings,
    "recordings.md": of_recordings,
    "porting-your-own.md": of_models,
    "models.md": of_models,
    "reading-a-report.md": of_reports,
    "releasing.md": of_releasing,
}


# What must happen before a block: its page, how it begins, the command.
BEFORE = (
    (
        "speakers.md",
        "samevoice speakers calibrate  ",  # the block before has removed Ana
        "samevoice speakers enroll Ana a.wav b.wav --model full",
    ),
)


# The pages ----------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", [str(page.relative_to(ROOT)) for page in doc_pages.pages()])
def test_a_page_runs_from_top_to_bottom(name: str, around: Around, tmp_path: Path) -> None:
    path = ROOT / name
    runs = ("sh", "console", "python")
    found = [x for x in blocks(path) if x.language in runs or x.file]
    if not found:
        return
    page = around.page(tmp_path / "page")
    if prepare := SETTINGS.get(path.name):
        prepare(page, around)
    change: Block | None = None
    try:
        for block in found:
            for where, start, first in BEFORE:
                if path.name == where and block.text.startswith(start):
                    assert page.step(first).code == 0
            if block.language == "diff":  # what follows is said of the file as it then is
                change = block
            elif block.file:
                page.write(block)
            else:
                with page.changed(change) if change else nullcontext():
                    follow_block(page, block, path)
                change = None
    finally:
        page.close()


def follow_block(page: Page, block: Block, path: Path) -> None:
    if block.language == "python":
        follow_python(page, block, path)
    elif not block.is_script:
        for command in commands(block):
            follow(page, command, path)


def follow_python(page: Page, block: Block, path: Path) -> None:
    at = f"{path.name}:{block.line}"
    answer = page.python(block.text, path.name, block.line)
    assert answer.code == 0, f"{at}\n{answer.text}"
    if block.prints is not None:
        assert same(block.prints, answer.text, page.folder), f"{at}\n{answer.text}"
    assert "False" not in answer.text, f"{at}\n{answer.text}"


def follow(page: Page, command: Command, path: Path) -> None:
    at = f"{path.name}:{command.line}: {command.words}"
    words = bare(command.words)
    if words == "pip install --editable .":
        page.install(page.folder)
        return
    if kind := next((kind for kind in ELSEWHERE if words.startswith(kind)), None):
        ELSEWHERE[kind](words)
        return
    if any(f"{words}\n".startswith(known) for known in NOT_RUN):
        return
    answer = page.shell(command.words)
    wanted = expected(command)
    assert (answer.code == 0) == wanted, f"{at}\n{answer.code}\n{answer.text}"
    if command.shown is not None:
        assert same(command.shown, answer.text, page.folder), f"{at}\n{answer.text}"


def expected(command: Command) -> bool:
    """Whether it goes well: a page that shows its last line as an error means it."""
    last = (command.shown or "").strip().splitlines()[-1:]
    return not any(line.startswith("samevoice: ") for line in last)


# What is not run, but must be right ---------------------------------------------------------------


def make_target(words: str) -> None:
    made = (ROOT / "Makefile").read_text()
    for target in shlex.split(words)[1:]:
        assert "=" in target or f"\n{target}:" in made, f"there is no make {target}"


def installation(words: str) -> None:
    """Extras that exist, and torch as it is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = (ROOT / "constraints.txt").read_text().split()
    _, _, *rest = shlex.split(words)
    for word in rest:
        if match := re.fullmatch(r"samevoice(?:\[([a-z,]+)\])?", word):
            extras = set((match[1] or "").split(",")) - {""}
            assert extras <= set(project["optional-dependencies"]), words
        else:
            assert word in pins or word.startswith(("-", "https://download.pytorch.org/")), words


ELSEWHERE: dict[str, Callable[[str], None]] = {
    "make ": make_target,
    "pip install ": installation,
}


def typed() -> list[tuple[str, str]]:
    """Every samevoice command of every page, with its page."""
    return [
        (path.name, words)
        for path in doc_pages.pages()
        for block in blocks(path)
        if block.language in ("sh", "console") and not block.is_script
        for command in commands(block)
        if (words := bare(command.words)).startswith("samevoice ")
    ]


@pytest.mark.parametrize(("page", "words"), typed())
def test_its_commands_are_understood(page: str, words: str) -> None:
    """Every flag exists and every value is one that the command takes, run or not."""
    _, name, *rest = shlex.split(words.replace("$", ""))
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    if name == "speakers":
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, rest)


def test_what_is_not_run_stands_on_a_page() -> None:
    words = [one for _, one in typed()]
    assert all(any(f"{one}\n".startswith(known) for one in words) for known in NOT_RUN)


def test_every_block_is_of_a_language_that_is_run() -> None:
    # Scripts for job arrays (bash) are run by tests/cli/test_evaluate_work.py.
    # GitHub draws mermaid, and tests/test_site.py reads what the site makes of {eval-rst}.
    known = {"sh", "console", "python", "yaml", "toml", "diff", "bash", "mermaid", "{eval-rst}", ""}
    for path in doc_pages.pages():
        for block in blocks(path):
            assert block.language in known, f"{path.name}:{block.line}: {block.language}"


def test_the_recipes_on_a_page_are_read() -> None:
    found = [one for one in blocks(ROOT / "docs/precision.md") if one.language == "toml"]
    alone, of_pipeline = (tomllib.loads(block.text) for block in found)
    assert Recipe.of(alone).type_of("lstm.0.backward") == "6"
    assert Recipe.of(alone).type_of("linear.0", linear=True) == "8"
    assert Recipe.of(of_pipeline["embedding"]).type_of("resnet.layer1.0.conv1") == "float16"


def test_make_targets_exist() -> None:
    for path in doc_pages.pages():
        asked = set(re.findall(r"`make ([a-z]+)", path.read_text(encoding="utf-8")))
        for target in asked:
            make_target(f"make {target}")


@pytest.mark.parametrize("path", doc_pages.pages(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = doc_pages.FENCE.sub("", path.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link and not link.startswith("#"):
            assert (path.parent / link.partition("#")[0]).exists(), f"{path.name}: {link}"


# docs/ci.md ---------------------------------------------------------------------------------------

CI = ROOT / "docs" / "ci.md"
# Steps of the workflow as they must follow each other: how each begins, or what it uses.
ORDER = {
    "parity": (
        "actions/checkout",
        "actions/setup-python",
        "pip install torch==",
        "pip install 'samevoice[parity]'",
        "actions/cache",
        "samevoice convert",
        "python -",
        "actions/cache",
        "saving=",
        "samevoice gate",
        "samevoice report",
        "actions/upload-artifact",
        "actions/upload-artifact",
    ),
    "replay": (
        "actions/setup-python",
        "pip install samevoice",
        "actions/download-artifact",
        "samevoice replay bundle --golden",
    ),
}


@pytest.fixture(scope="module")
def small(around: Around, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A gated network on the hub that takes a tenth of the real one's work."""
    folder = tmp_path_factory.mktemp("small")
    save(small_pyannet(), folder / "pytorch_model.bin")
    around.hub.add("org/small", files(folder)).readers = {TOKEN}
    return "org/small"


def small_pyannet() -> Any:
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(0)
    model = PyanNet(
        sincnet={"stride": 40},
        lstm={"hidden_size": 8, "num_layers": 1, "bidirectional": True, "monolithic": True},
        linear={"hidden_size": 8, "num_layers": 1},
    )
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=["speaker#1", "speaker#2"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    return shaken(model).eval()


def the_workflow(name: str = "parity") -> dict[str, Any]:
    found = (doc_pages.workflow(one) for one in blocks(CI) if one.language == "yaml")
    return {str(one["name"]): one for one in found}[name]


def test_every_action_is_pinned_to_a_major_version() -> None:
    both = the_workflow(), the_workflow("upgrades")
    steps = [step for one in both for job in one["jobs"].values() for step in job["steps"]]
    assert steps
    assert all(("uses" in step) != ("run" in step) for step in steps)
    for step in steps:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v[1-9]\d*", step["uses"]), step


def test_the_steps_follow_each_other() -> None:
    jobs = the_workflow()["jobs"]
    assert jobs.keys() == ORDER.keys()
    for name, wanted in ORDER.items():
        steps = [step.get("uses") or step["run"] for step in jobs[name]["steps"]]
        assert len(steps) == len(wanted), name
        for step, start in zip(steps, wanted, strict=True):
            assert step.startswith(start), f"{name}: {step!r}, not {start!r}"


def test_the_workflow_asks_for_little_and_runs_by_itself() -> None:
    found = the_workflow()
    assert set(found["on"]) == {"push", "pull_request", "schedule", "workflow_dispatch"}
    assert found["permissions"] == {"contents": "read"}
    steps = found["jobs"]["parity"]["steps"]
    with_token = [step.get("name") for step in steps if "HF_TOKEN" in step.get("env", {})]
    assert with_token == ["Convert", "Prove"], "only what fetches has the token"
    assert "secrets" not in json.dumps([found["env"], found["jobs"]["parity"]["env"]])
    late = {step["name"]: step["if"] for step in steps if "if" in step}
    assert all("!cancelled()" in condition for condition in late.values()), "red ones most of all"
    assert late.keys() == {"Say so on the run's page", "Upload the report"}
    assert "steps.source.outputs.revision" in next(
        step["with"]["key"] for step in steps if step.get("name") == "Keep PyTorch's outputs"
    )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_workflow_runs(small: str, around: Around, tmp_path: Path) -> None:
    """Both jobs, step by step, as the runner does; the second without torch and its kin."""
    jobs = the_workflow()["jobs"]
    page = around.page(tmp_path / "page")
    page.env["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
    page.env["GITHUB_OUTPUT"] = str(tmp_path / "output")
    said = "".join(run_step(page, step, jobs["parity"], small) for step in jobs["parity"]["steps"])
    assert "passed  bundle" in said
    assert "1 passed" in (tmp_path / "summary.md").read_text()
    commit = around.hub.commit(small)
    assert (tmp_path / "output").read_text() == f"revision={commit}\n"
    kept = "".join(
        path.read_text(errors="replace") for path in page.folder.rglob("*") if path.is_file()
    )
    assert TOKEN not in said + kept

    other = around.page(tmp_path / "other")
    for name in ("bundle", "golden"):
        shutil.copytree(page.folder / name, other.folder / name)
    del other.env["SAMEVOICE_DOC_SERVER"]
    other.env["PYTHONPATH"] = os.pathsep.join([lacking(tmp_path), other.env.get("PYTHONPATH", "")])
    said = "".join(run_step(other, step, jobs["replay"], small) for step in jobs["replay"]["steps"])
    assert said.startswith("passed  bundle against golden")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_upgrades_run(around: Around, tmp_path: Path) -> None:
    """What the page keeps, of small networks, and the steps on it: once good, then moved."""
    import made_corpus
    from made_campplus import small_campplus, source_of

    made = tmp_path / "made"
    (made / "segmentation").mkdir(parents=True)
    save(small_pyannet(), made / "segmentation" / "pytorch_model.bin")
    source = source_of(made / "source", made / "segmentation", small_campplus(made / "small.pt"))
    around.hub.add("org/whole", files(source))
    page = around.page(tmp_path / "page")
    (page.folder / "corpus").mkdir()
    made_corpus.write(page.folder / "corpus")
    keep = next(x for x in blocks(CI) if "--output baseline" in x.text).text
    keep = keep.replace("pyannote/speaker-diarization-community-1", "org/whole")
    keep = keep.replace("samevoice parity", "samevoice parity --only segmentation")
    assert (answer := page.step(keep)).code == 0, answer.text

    found = the_workflow("upgrades")
    assert set(found["on"]) == {"schedule", "workflow_dispatch"}
    assert found["permissions"] == {"contents": "read"}
    (job,) = found["jobs"].values()
    job["env"] = {**found["env"], "PARTS": "segmentation"}
    shutil.rmtree(page.folder / "bundle")
    said = "".join(run_step(page, step, job, "org/whole") for step in job["steps"])
    assert "passed  bundle/segmentation against proof/segmentation/golden" in said
    assert "since the baseline: the same bundle, versions and device" in said
    assert "passed  moved/evaluation.json" in said


def run_step(page: Page, step: dict[str, Any], job: dict[str, Any], source: str) -> str:
    if "run" not in step:
        return ""
    env = {**the_workflow()["env"], **job.get("env", {}), **step.get("env", {}), "SOURCE": source}
    filled = {name: filled_in(str(value), page) for name, value in env.items()}
    assert "${{" not in step["run"], "what is filled into a script can become one"
    answer = page.step(without_pip(step["run"]), **filled)
    assert answer.code == 0, f"{step}\n{answer.text}"
    return answer.text


def filled_in(value: str, page: Page) -> str:
    known = {"github.workspace": str(page.folder), "secrets.HF_TOKEN": TOKEN}
    return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: known[match[1]], value)


def without_pip(script: str) -> str:
    for line in script.splitlines():
        if line.startswith("pip install "):
            installation(line)
    return re.sub(r"^pip install .*$", ":", script, flags=re.MULTILINE)


def lacking(place: Path) -> str:
    """A folder that hides what `pip install samevoice` does not bring."""
    folder = place / "lacking"
    for name in ("torch", "pyannote", "torchaudio", "matplotlib", "jinja2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError('{name} is not here')\n")
    return str(folder)


def the_script() -> str:
    (block,) = (block for block in blocks(CI) if block.is_script)
    return without_pip(block.text)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_script_runs(small: str, around: Around, tmp_path: Path) -> None:
    page = around.page(tmp_path / "page")
    del page.env["SAMEVOICE_DOC_SERVER"]  # the script says itself where the hub's cache is
    cache = tmp_path / "cache"
    env = {
        "SOURCE": small,
        "HF_TOKEN": TOKEN,
        "CACHE": str(cache),
        "SAMEVOICE_DOC_SHARED": "parity",
    }
    answer = page.script(the_script(), **env)
    assert answer.code == 0, answer.text
    assert answer.text.rstrip().splitlines()[-2].startswith("passed  report/result.json")
    assert (page.folder / "golden" / "golden.json").is_file()
    assert (cache / "huggingface" / "hub" / "models--org--small").is_dir()
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    ("kept", "code", "said"),
    [
        ("", 0, ["convert", "parity and save", "gate"]),
        ("an0thersource", 0, ["convert", "parity and save", "gate"]),
        ("f00d", 0, ["convert", "parity", "gate"]),
        ("f00d", 1, ["convert", "parity"]),
    ],
)
def test_the_script_saves_what_torch_said_once_and_stops_where_it_is_red(
    kept: str, code: int, said: list[str], around: Around, tmp_path: Path
) -> None:
    """With a samevoice that only says what it was asked for, and ends as it is told."""
    page = around.page(tmp_path / "page")
    (page.folder / "bundle").mkdir()
    provenance = {"sources": {"segmentation": {"sha256": "f00d"}}}
    (page.folder / "bundle" / "provenance.json").write_text(json.dumps(provenance))
    if kept:
        (page.folder / "golden").mkdir()
        (page.folder / "golden" / "golden.json").write_text(f'{{"source_sha256": "{kept}"}}')
    stub = tmp_path / "bin" / "samevoice"
    stub.parent.mkdir()
    stub.write_text(
        '#!/bin/sh\ncase "$*" in *--save-golden\\ golden*) saving=" and save";; esac\n'
        f'echo "$1$saving"\n[ "$1" != parity ] || exit {code}\n'
    )
    stub.chmod(0o755)
    answer = page.script(the_script(), PATH=f"{stub.parent}{os.pathsep}{page.env['PATH']}")
    assert (answer.code, answer.text.splitlines()) == (code, said)


# docs/bundle.md -----------------------------------------------------------------------------------

# Names that differ from bundle to bundle, and what the page calls them.
WILD = {
    ("outputs",): "FILE",
    ("rules_sha256",): "TYPE",
    ("sources",): "TYPE",
    ("sources", "TYPE", "files"): "FILE",
    ("versions",): "PACKAGE",
    ("weight_map",): "TENSOR",
    ("dtypes",): "TENSOR",
}
FREE = ("beside",)  # whatever the checkpoint held


def keys(value: Any, path: tuple[str, ...] = ()) -> set[str]:
    """Every key of a JSON file, dotted."""
    if isinstance(value, dict) and value and path != FREE:
        inside = [(WILD.get(path) or str(name), one) for name, one in value.items()]
        return {key for name, one in inside for key in keys(one, (*path, name))}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {f"{'.'.join(path)}[].{key}" for one in value for key in keys(one)}
    return {".".join(path)}


def table(page: Path, heading: str) -> set[str]:
    """The first column of the one table whose first heading is this."""
    text = page.read_text(encoding="utf-8")
    (found,) = re.findall(
        rf"^\| {re.escape(heading)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, flags=re.MULTILINE
    )
    return {str(row).split("|")[1].strip().strip("`") for row in found.splitlines()}


@pytest.fixture(scope="module")
def bundles(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole pipeline, and a quantised one, fresh."""
    folder = tmp_path_factory.mktemp("bundles")
    samevoice.convert("reference:full", folder / "full")
    samevoice.convert(references["full"], folder / "quantised", q_bits=4, max_shard_size="2MB")
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


BUNDLE = ROOT / "docs" / "bundle.md"
EVERY = "key of every network"


def test_the_page_names_every_file_of_a_bundle(bundles: Path) -> None:
    named = table(BUNDLE, "file")
    for part in ("segmentation", "embedding", "plda"):
        there = set(files(bundles / "full" / part))
        assert there <= named, part
        assert named - there <= {"origin/kept.safetensors"}, part
    assert "origin/kept.safetensors" in set(files(bundles / "full" / "segmentation"))
    shards = {name for name in files(bundles / "quantised" / "segmentation") if "-of-" in name}
    assert f"model-00001-of-0000{len(shards)}.safetensors" in shards
    top = {name for name in files(bundles / "full") if name.count("/") == 0}
    assert top == {"config.json", "README.md", "provenance.json"}
    assert set(files(bundles / "full" / "origin")) == {"config.yaml"}


@pytest.mark.parametrize(
    ("bundle", "headings"),
    [
        ("full/segmentation", (EVERY, "key of a segmentation")),
        ("full/embedding", (EVERY, "key of an embedding")),
        ("full/plda", (EVERY, "key of a PLDA")),
        ("full", ("key of a pipeline",)),
    ],
)
def test_the_page_names_every_key_of_a_config(
    bundle: str, headings: tuple[str, ...], bundles: Path
) -> None:
    named = set().union(*(table(BUNDLE, heading) for heading in headings))
    assert keys(read(bundles / bundle / "config.json")) == named


def test_the_page_names_what_quantisation_adds(bundles: Path) -> None:
    plain = keys(read(bundles / "full" / "segmentation" / "config.json"))
    packed = read(bundles / "quantised" / "segmentation" / "config.json")
    assert keys(packed) - plain == table(BUNDLE, "key of a quantised bundle")


def test_the_page_names_what_a_recipe_adds(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        '[layers]\n"lstm.0.forward" = 4\n"linear.0" = "float16"\n'
    )
    samevoice.convert("reference:segmentation", tmp_path / "a", recipe=tmp_path / "recipe.toml")
    plain = keys(read(bundles / "full" / "segmentation" / "config.json"))
    found = keys(read(tmp_path / "a" / "config.json")) - plain
    layers = r"(lstm\.0\.forward|linear\.\d|classifier)"
    general = {
        re.sub(layers, "LAYER", name.replace("_config", "")).replace("TENSOR", "LAYER")
        for name in found
    }
    named = table(BUNDLE, "key of a mixed bundle") - {"dtype"}
    assert general - {"quantization.mode", "quantization.LAYER.mode"} == named


def test_the_page_names_every_key_of_the_provenance(bundles: Path) -> None:
    named = table(BUNDLE, "key of the provenance")
    part = keys(read(bundles / "full" / "segmentation" / "provenance.json"))
    assert part == named
    whole = keys(read(bundles / "full" / "provenance.json"))
    assert whole == {key for key in named if not key.startswith("tensors[]")} | {"tensors"}


def test_the_page_names_every_key_of_index_origin_and_metadata(bundles: Path) -> None:
    from safetensors import safe_open

    part = bundles / "full" / "segmentation"
    assert keys(read(part / "model.safetensors.index.json")) == table(BUNDLE, "key of the index")
    assert keys(read(part / "origin" / "checkpoint.json")) == table(BUNDLE, "key of the origin")
    with safe_open(part / "model.safetensors", framework="numpy") as opened:
        assert set(opened.metadata()) == table(BUNDLE, "key of the metadata")
    with safe_open(part / "origin" / "kept.safetensors", framework="numpy") as opened:
        assert opened.metadata() == {"format": "pt"}


# The following itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "said", "right"),
    [
        ("a 1.5\nb", "a 2.25\nb", True),
        ("a 1\nb", "a 2\nb", False),  # a count
        ("186 taps, at most 4.3e+03", "186 taps, at most 17.20", True),
        ("lstm.1.forward", "lstm.2.forward", False),
        ("a\n...\nc", "a\nb\nb\nc", True),
        ("a\n...\nc", "a\nc\nd", False),
        ("...\nc", "a\nb\nc", True),
        ("a\n...", "b\na", False),
        ("a", "a\nb", False),
        ("a\n...\nb\n...\nc", "a\nc\nb\nc", True),
        ("a\n...\nb\n...\nc", "a\nb", False),
        ("wrote /home/ana/x.rttm", "wrote /tmp/page/x.rttm", True),
        ("wrote a/x.rttm", "wrote b/x.rttm", False),
        ("noise_ratio is 19.5, but", "noise_ratio is 104075, but", True),
    ],
)
def test_what_counts_as_the_same(shown: str, said: str, right: bool) -> None:
    assert same(shown, said, Path("/tmp/page")) is right


def test_what_is_printed_belongs_to_the_block_above(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx\n```\n\n```text\ny\n```\n\nand\n\n```text\nz\n```\n")
    first, second = blocks(page)
    assert (first.text, first.line, first.prints) == ("x\n", 2, "y\n")
    assert (second.language, second.text) == ("text", "z\n")


def test_commands_are_joined_and_know_what_is_shown() -> None:
    block = Block("console", "$ one \\\n    two\nsaid\n\n$ three\n", 10)
    assert list(commands(block)) == [
        Command("one two", 10, "said\n"),
        Command("three", 14, None),
    ]
    assert bare("samevoice gate r.json   # for CI") == "samevoice gate r.json"
