"""The workflows and the action: every shell step runs here, as GitHub's runner would run it.

What a runner has and a test must not use (sudo, pip, gh, ...) is a program that notes what it was
asked. ``make`` says what it would do, so that a target that is gone is found. ``samevoice`` runs on
small networks; what takes minutes is only parsed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from doc_pages import ROOT

from samevoice.cli import app

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
PARSED = ("doctor", "bench")  # minutes
NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >> "$NOTES"\n'
PROGRAMS = {
    "make": f"exec {shutil.which('make')} -n -C {ROOT} BIN=$PWD/.venv/bin \"$@\" > /dev/null\n",
    "gh": 'case "$*" in "issue list"*|*/comments\\ *) printf "%s" "$EARLIER";; esac\n',
    "samevoice": f"""
case " {' '.join(PARSED)} " in *" $1 "*) exec {BIN}/python {__file__} "$@";; esac
[ "$1" != diarize ] || set -- "$@" --model "$MODEL"
exec {BIN}/samevoice "$@"
""",
    "pip": f"""
case "$1 $2" in
"install dist/"*)
    exec {BIN}/python -m pip --python empty/bin/python install --no-deps --no-index dist/*.whl;;
"download "*) mkdir -p wheels && cp "$WHEEL" wheels;;
esac
""",
    "python": f"""
case "$*" in
"-m build") exec {BIN}/python -P -m build --no-isolation --outdir "$PWD/dist" "$TREE";;
"-m venv empty") {BIN}/python -m venv --without-pip empty
    cp "$STUBS/pip" "$STUBS/samevoice" empty/bin
    for site in empty/lib/python3.*/site-packages; do echo "$SITE" > "$site/x.pth"; done;;
*) exec {BIN}/python "$@";;
esac
""",
    **dict.fromkeys(("sudo", "brew", "apt-get"), ""),
}  # fmt: skip


def steps_of(path: Path) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each step, and its job."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = found["jobs"].values() if "jobs" in found else [found["runs"]]
    return [(step, {"env": found.get("env", {}), **job}) for job in jobs for step in job["steps"]]


@dataclass
class Runner:
    """A folder, the programs of a runner, and what ``${{ }}`` stands for."""

    folder: Path
    filled: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        stubs = self.folder.parent / "stubs"
        own = self.folder / ".venv" / "bin"
        for place in (stubs, own):
            place.mkdir(parents=True, exist_ok=True)
        for name, does in PROGRAMS.items():
            (stubs / name).write_text(NOTE + does, encoding="utf-8")
            (stubs / name).chmod(0o755)
        (own / "samevoice").symlink_to(stubs / "samevoice")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "PYTHON"))}
        self.env = {
            **kept,
            "PATH": os.pathsep.join([str(stubs), kept["PATH"]]),
            "STUBS": str(stubs),
            "NOTES": str(self.folder.parent / "notes"),
            "GITHUB_STEP_SUMMARY": str(self.folder.parent / "summary.md"),
            "PYANNOTE_METRICS_ENABLED": "0",
            **self.env,
        }
        self.env.setdefault("SAMEVOICE_CACHE", str(ROOT / "out" / "cache"))

    @property
    def notes(self) -> str:
        path = Path(self.env["NOTES"])
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def run(self, path: Path, name: str, *, code: int = 0, **env: str) -> str:
        """The step of this name, with its own environment."""
        ((step, job),) = [one for one in steps_of(path) if one[0].get("name") == name]
        own = {**job["env"], **step.get("env", {})} if "env" in job else step.get("env", {})
        said = {key: self._filled_in(str(value)) for key, value in own.items()}
        assert "${{" not in step["run"], "what is filled into a script can become one"
        flags = ["-eo", "pipefail"] if step.get("shell") == "bash" else ["-e"]
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", *flags, "-c", step["run"]],
            cwd=self.folder,
            env={**self.env, **said, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{name}: {done.stdout}\n{done.stderr}\n{self.notes}"
        self.done.add(name)
        return done.stdout + done.stderr

    def _filled_in(self, value: str) -> str:
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: self.filled[match[1]], value)

    def has_run_all_of(self, path: Path) -> bool:
        return {step["name"] for step, _ in steps_of(path) if "run" in step} == self.done


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "work")


def workflow(name: str) -> Path:
    return ROOT / ".github" / "workflows" / f"{name}.yml"


def test_they_ask_for_little() -> None:
    for path in WORKFLOWS:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert found["permissions"] == {"contents": "read"}, path.name
        assert all("timeout-minutes" in job for job in found["jobs"].values()), path.name
        assert "secrets." not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "action.yml"], ids=lambda path: path.name)
def test_their_scripts_are_clean(path: Path, tmp_path: Path) -> None:
    for number, (step, _) in enumerate(steps_of(path)):
        if "run" in step:
            script = tmp_path / f"{number}.sh"
            script.write_text(f"#!/bin/bash\n{step['run']}", encoding="utf-8")
            line = [BIN / "shellcheck", script]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{step['name']}: {done.stdout}"


def test_python_is_tested_from_the_oldest_to_the_newest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    matrix = yaml.safe_load(workflow("test").read_text())["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    assert project["requires-python"] == f">={matrix['python'][0]}"
    named = [x.rpartition(" ")[2] for x in project["classifiers"] if ":: Python :: 3." in x]
    assert named == matrix["python"]


@pytest.mark.long
def test_each_push_is_tested_and_metal_speaks(runner: Runner, compared: Path) -> None:
    path = workflow("test")
    shutil.copytree(compared, runner.folder / "out" / "parity" / "small")
    for step, _ in steps_of(path):
        if "run" in step:
            runner.run(path, step["name"])
    assert runner.has_run_all_of(path)
    assert "make check test" in runner.notes
    assert "brew install" in runner.notes
    said = Path(runner.env["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8")
    assert "1 passed" in said
    assert "Tap by tap, `small`:\n\n<details><summary>" in said  # tap by tap


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_nightly_run_saves_replays_and_tells(runner: Runner) -> None:
    path = workflow("nightly")
    small = "XVectorSincNet/small"
    runner.run(path, "Run all tests")
    runner.run(path, "Save what PyTorch gives", NETWORKS=small)
    runner.run(path, "Install the newest")
    assert "passed  golden/XVectorSincNet/small/bundle against" in runner.run(
        path, "Replay what PyTorch gave", NETWORKS=small
    )
    assert "passed  newest/XVectorSincNet/small" in runner.run(
        path, "Compare with the newest PyTorch", NETWORKS=small
    )
    about = {"github.token": "t", "github.repository": "a/b", "github.run_id": "7"}
    runner.filled = {**about, "github.server_url": "https://github.com"}
    tell = "Open an issue, or add to the one that is open"
    runner.run(path, tell)
    assert "gh issue create --title The nightly run is red --body" in runner.notes
    assert "https://github.com/a/b/actions/runs/7" in runner.notes
    runner.run(path, tell, EARLIER="12")
    assert "gh issue comment 12 --body" in runner.notes
    assert runner.has_run_all_of(path)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_release_is_built_tried_and_named_by_its_tag(
    runner: Runner, narrow_bundle: Path, tmp_path: Path
) -> None:
    import pyannote.audio

    path, tree = workflow("release"), tmp_path / "tree"
    left_out = shutil.ignore_patterns(".git", ".venv", "out", "*.egg-info", ".*_cache", "tests")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=left_out)
    sample = Path(pyannote.audio.__file__).parent / "sample" / "sample.wav"
    wheel = tmp_path / "pyannote_audio-4.0.7-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(sample, "pyannote/audio/sample/sample.wav")
    site = "\n".join(one for one in sys.path if one.endswith("site-packages"))
    runner.env |= {"TREE": str(tree), "WHEEL": str(wheel), "MODEL": str(narrow_bundle)}
    runner.env |= {"SITE": site, "SETUPTOOLS_SCM_PRETEND_VERSION": "1.2.3"}
    runner.run(path, "Check and run all tests")
    runner.run(path, "Build")
    check = "Check that the version is the tag's, and what the wheel holds"
    runner.run(path, check, GITHUB_REF_NAME="v1.2.3")
    runner.run(path, check, code=2, GITHUB_REF_NAME="v1.2.4")
    assert "✓ samevoice          1.2.3" in runner.run(
        path, "Install the wheel in an empty environment"
    )
    runner.run(path, "Hear who speaks in the recording that pyannote.audio ships")
    assert runner.has_run_all_of(path)


# The action ---------------------------------------------------------------------------------------

ACTION = ROOT / "action.yml"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of a small network."""
    folder = tmp_path_factory.mktemp("compared")
    source = "reference:XVectorSincNet/small"
    line = ["parity", "bundle", "--source", source, "--inputs", "brief", "--output", "parity"]
    for words in (["convert", source, "--mlx-path", "bundle"], line):
        subprocess.run([BIN / "samevoice", *words], cwd=folder, check=True, capture_output=True)
    return folder / "parity"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_action_converts_proves_and_comments(runner: Runner) -> None:
    asked = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["inputs"]
    given = {f"inputs.{name}": str(one.get("default", "")) for name, one in asked.items()}
    own = {"inputs.source": "reference:XVectorSincNet/small", "inputs.inputs": "brief"}
    about = {"github.token": "t", "github.repository": "a/b"}
    runner.filled = {**given, **own, **about, "github.event.pull_request.number": "5"}
    runner.env["GITHUB_ACTION_PATH"] = str(ROOT)
    names = [step["name"] for step, _ in steps_of(ACTION)]
    for name in names:
        runner.run(ACTION, name)
    assert runner.has_run_all_of(ACTION)
    assert f"pip install {ROOT}[parity]" in runner.notes
    assert "gh pr comment 5 --repo a/b --body-file samevoice/comment.md" in runner.notes
    comment = (runner.folder / "samevoice" / "comment.md").read_text(encoding="utf-8")
    assert comment.startswith("<!-- samevoice ")
    assert "1 passed" in comment
    assert "1 passed" in Path(runner.env["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8")
    runner.run(ACTION, names[-1], EARLIER="77\n78\n")
    assert "gh api --silent -X PATCH repos/a/b/issues/comments/77 -F" in runner.notes
    assert "no comment was written" not in runner.notes


def parsed(words: list[str]) -> None:
    """Whether the command knows these words; nothing runs."""
    name, *rest = words
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(name, rest)


if __name__ == "__main__":
    parsed(sys.argv[1:])
