"""The package as others get it: what the wheel holds, that it works, and what it imports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchaudio", "pyannote", "mlx", "huggingface_hub")

# What building must not see: an old build's leftovers would end up in the new one.
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "out", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)


def run(
    *command: object, cwd: Path, env: Mapping[str, str] | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """A command in a folder, with this environment's variables but none of Python's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept | dict(env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


# --- building -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this working tree."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=_LEFT_OUT)
    # -P: a folder named build in the tree is not the module that builds.
    build = (sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", folder)
    run(*build, "--wheel", "--sdist", cwd=folder / "tree")
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("samevoice-*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (found,) = built.glob("samevoice-*.tar.gz")
    return found


def modules() -> set[str]:
    """Every module of the four folders and of samevoice itself, by its place in the package."""
    own = ROOT / "src" / "samevoice"
    written = [*own.glob("*.py")]
    for folder in ("bench", "cli", "evaluation", "port", "precision", "release", "workers"):
        written += (own / folder).rglob("*.py")
    found = {path.relative_to(ROOT / "src") for path in written}
    for folder in ("converters", "models", "parity", "reports"):
        paths = (ROOT / folder).rglob("*.py")
        found |= {Path("samevoice") / path.relative_to(ROOT) for path in paths}
    return {path.as_posix() for path in found}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = {name for name in names if name.startswith("samevoice/")}
    assert {name for name in package if name.endswith(".py")} == modules()
    rest = package - modules() - {"samevoice/py.typed"}
    templates = ("samevoice/reports/templates/", "samevoice/models/diarization/templates/")
    assert all(name.startswith(templates) for name in rest)
    assert {f"{templates[1]}page.{kind}" for kind in ("html", "css", "js")} <= rest
    assert "samevoice/py.typed" in package
    assert {"samevoice/converters/convert.py", "samevoice/models/networks/pyannet.py"} < package
    others = {name.partition("/")[0] for name in names} - {"samevoice"}
    assert others == {f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    assert not [name for name in names if Path(name).name.startswith(("test", "conftest"))]


def test_the_wheel_brings_its_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {
            name.partition(".dist-info/")[2]: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    assert info["licenses/LICENSE"] == (ROOT / "LICENSE").read_text()
    assert "samevoice = samevoice.cli:main" in info["entry_points.txt"]
    assert "Root-Is-Purelib: true" in info["WHEEL"]


def test_inference_asks_for_neither_torch_nor_pyannote(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needs = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    always = {re.split(r"[^\w.-]", need)[0] for need in needs if "extra ==" not in need}
    assert {"mlx", "numpy", "safetensors", "huggingface-hub"} <= always
    assert not always & {"torch", "torchaudio", "pyannote.audio", "scikit-learn", "matplotlib"}
    assert [need for need in needs if need.startswith("torch") and 'extra == "parity"' in need]
    assert not [need for need in needs if 'extra == "convert"' in need]


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert {"pyproject.toml", "README.md", "LICENSE"} <= {
            name.partition("/")[2] for name in archive.getnames()
        }
    again = ("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", tmp_path)
    run(sys.executable, "-m", "pip", *again, sdist, cwd=tmp_path)
    (made,) = tmp_path.glob("*.whl")
    assert made.name == wheel.name
    assert sums(made) == sums(wheel)


def sums(path: Path) -> dict[str, int]:
    """Each file of a wheel with its checksum; RECORD lists the same in another order."""
    with zipfile.ZipFile(path) as archive:
        found = {info.filename: info.CRC for info in archive.infolist()}
    return {name: value for name, value in found.items() if not name.endswith("/RECORD")}


# --- using --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment: the wheel, and this one's packages to depend on."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", "--quiet", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=home)
    # Only now, or pip would find samevoice there. A .pth named in a .pth is not followed, so the
    # editable install there stays out of sight.
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(sorted(places)))
    return home / "bin"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "small.safetensors"
    path.parent.mkdir()
    save_file(made_up.pyannet_arrays(hidden=8), path)
    return path


def test_the_wheel_works_in_an_empty_folder(
    installed: Path, wheel: Path, checkpoint: Path, tmp_path: Path
) -> None:
    version = wheel.name.split("-")[1]
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(installed / "python", "-c", "import samevoice as s; print(s.__file__)", cwd=empty)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent)

    said = run(installed / "python", "-m", "samevoice", "--version", cwd=empty)
    assert said.stdout == f"samevoice {version}\n"
    said = run(installed / "samevoice", "doctor", cwd=empty)
    assert f"✓ samevoice          {version}, Python" in said.stdout
    assert "✗" not in said.stdout

    convert = ("convert", checkpoint, "--mlx-path", "bundle")
    assert "done" in run(installed / "samevoice", *convert, cwd=empty).stdout
    assert "good" in run(installed / "samevoice", "inspect", "bundle", cwd=empty).stdout
    load = "import samevoice; print(samevoice.load('bundle').classifier.weight.shape)"
    assert run(installed / "python", "-c", load, cwd=empty).stdout == "(7, 8)\n"
    assert [path.name for path in empty.iterdir()] == ["bundle"]


def test_a_clone_names_its_commit(tmp_path: Path) -> None:
    """So does whatever pip installed from git, by what pip notes of it."""
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@y")
    package = tmp_path / "clone" / "src" / "samevoice"
    package.mkdir(parents=True)
    for name in ("__init__", "versions", "errors"):
        shutil.copy(ROOT / "src" / "samevoice" / f"{name}.py", package)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        run(*git, *words, cwd=tmp_path / "clone")
    head = run("git", "rev-parse", "HEAD", cwd=tmp_path / "clone").stdout
    ask = [sys.executable, "-c", "from samevoice.versions import commit; print(commit())"]
    there = {"PYTHONPATH": str(package.parent)}
    assert head.startswith(run(*ask, cwd=tmp_path, env=there).stdout.strip())
    with (package / "errors.py").open("a") as file:
        file.write("# mine\n")
    assert run(*ask, cwd=tmp_path, env=there).stdout.endswith("-dirty\n")

    shutil.rmtree(tmp_path / "clone" / ".git")
    assert run(*ask, cwd=tmp_path, env=there).stdout == "\n"
    info = package.parent / "samevoice-0.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: samevoice\nVersion: 0.5\n")
    (info / "direct_url.json").write_text(json.dumps({"vcs_info": {"commit_id": "f00d" * 10}}))
    assert run(*ask, cwd=tmp_path, env=there).stdout == "f00df00\n"


LINKS = ("converters", "models", "parity", "reports")


def test_a_copy_without_links_is_refused_in_one_line(tmp_path: Path) -> None:
    """As an archive that was unpacked where there are none, or git told not to make any."""
    tree, here = tmp_path / "tree", {"PYTHONPATH": "src"}
    left_out = shutil.ignore_patterns("tests", "docs", "converters", "models", "parity", "reports")
    shutil.copytree(ROOT, tree, ignore=lambda *of: _LEFT_OUT(*of) | left_out(*of))
    for name in LINKS:
        (tree / "src" / "samevoice" / name).write_text(f"../../{name}")
    line = f"{tree}/src/samevoice/converters is a file, not a link: this copy was made without "
    install = ("pip", "install", "--no-build-isolation", "--no-deps", "--target", "out", ".")
    setup = ("make", "setup", f"PYTHON={sys.executable}")
    for command, code in (
        ((sys.executable, "-m", *install), 1),
        ((sys.executable, "-m", "samevoice"), 1),
        (setup, 2),
    ):
        said = run(*command, cwd=tree, env=here, code=code)
        assert line in said.stdout + said.stderr, command
    assert not (tree / ".venv").exists()


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9)\n$2"\n'
    )
    old.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    said = run("make", "setup", f"PYTHON={old}", cwd=tmp_path, code=2)
    assert "samevoice needs Python 3.11 or newer, not" in said.stderr


def test_the_environment_of_the_tests_is_an_editable_install(tmp_path: Path) -> None:
    ask = "import samevoice, samevoice.converters as c; print(samevoice.__file__, c.__file__)"
    found = run(sys.executable, "-c", ask, cwd=tmp_path).stdout.split()
    package = ROOT / "src" / "samevoice"
    assert found == [str(package / "__init__.py"), str(package / "converters" / "__init__.py")]


# --- what is imported ---------------------------------------------------------------------------

COUNT = f"""
import json, sys
def count():
    found = {{name.partition(".")[0] for name in sys.modules}}
    print(json.dumps(sorted(found & set({HEAVY!r}))))
"""
COMMAND = (
    COUNT
    + """
from samevoice.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    print()
    count()
    sys.exit(ended.code)
"""
)


def imported(code: str, *words: object, cwd: Path) -> set[str]:
    """Which of the heavy packages a program had loaded when it ended."""
    said = run(sys.executable, "-c", code, *words, cwd=cwd).stdout
    return set(json.loads(said.splitlines()[-1]))


def test_importing_samevoice_costs_nothing(tmp_path: Path) -> None:
    assert imported(f"{COUNT}\nimport samevoice\ncount()", cwd=tmp_path) == set()


@pytest.mark.parametrize("words", [["--help"], ["convert", "--help"], ["--version"]], ids=str)
def test_help_costs_nothing(words: list[str], tmp_path: Path) -> None:
    assert imported(COMMAND, *words, cwd=tmp_path) == set()


def test_safetensors_are_converted_without_torch(checkpoint: Path, tmp_path: Path) -> None:
    words = ("convert", checkpoint, "--mlx-path", "bundle")
    assert not imported(COMMAND, *words, cwd=tmp_path) & {"torch", "torchaudio", "pyannote"}
    assert (tmp_path / "bundle" / "model.safetensors").is_file()


def test_a_torch_checkpoint_is_converted_without_torch(
    torch_checkpoint: Path, tmp_path: Path
) -> None:
    for words in (
        ("convert", torch_checkpoint, "--mlx-path", "bundle"),
        ("inspect", torch_checkpoint),
        ("export", "bundle", "--output", "back.bin"),
    ):
        found = imported(COMMAND, *words, cwd=tmp_path)
        assert not found & {"torch", "torchaudio", "pyannote"}, words
    assert (tmp_path / "bundle" / "model.safetensors").is_file()


def test_a_bundle_is_loaded_and_inspected_without_torch(checkpoint: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "samevoice", "convert", checkpoint, cwd=tmp_path)
    load = f"{COUNT}\nimport samevoice\nsamevoice.load('mlx_model')\ncount()"
    for code, words in ((load, ()), (COMMAND, ("inspect", "mlx_model"))):
        assert not imported(code, *words, cwd=tmp_path) & {"torch", "torchaudio", "pyannote"}


@pytest.fixture
def torch_checkpoint(tmp_path: Path) -> Path:
    """A bare state dict."""
    torch: Any = pytest.importorskip("torch")
    arrays = made_up.pyannet_arrays(hidden=8)
    path = tmp_path / "small.bin"
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    return path


# --- what is not installed ----------------------------------------------------------------------

# Takes packages away as if they had never been installed: no module, no distribution.
HIDING = """
import importlib.metadata, os, sys
from importlib.machinery import PathFinder

HIDDEN = tuple(os.environ["HIDDEN"].split(","))

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] not in HIDDEN:
            return super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, *args, **kwargs):
        for found in super().find_distributions(*args, **kwargs):
            if found.metadata["Name"].partition(".")[0].partition("-")[0] not in HIDDEN:
                yield found

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def without(
    hidden: Sequence[str],
    *words: object,
    cwd: Path,
    code: int,
    python: Path | str = sys.executable,
    module: str = "samevoice",
) -> subprocess.CompletedProcess[str]:
    """The command where these packages are not installed."""
    hook = cwd / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(HIDING)
    settings = {
        "PYTHONPATH": str(hook),
        "HIDDEN": ",".join(hidden),
        "SAMEVOICE_CACHE": str(cwd / "cache"),
    }
    return run(python, "-m", module, *words, cwd=cwd, env=settings, code=code)


def there_and_back(source: Path, place: Path, python: Path | str) -> None:
    """A checkpoint converted, inspected and exported where there is no torch; the same bits."""
    import torch

    def command(*words: object, code: int = 0, module: str = "samevoice") -> str:
        said = without(TORCH, *words, cwd=place, code=code, python=python, module=module)
        return said.stdout + said.stderr

    assert "No module named" in command(code=1, module="torch")
    assert "done" in command("convert", source, "--mlx-path", "bundle")
    assert "tensors" in command("inspect", source)
    assert "good" in command("inspect", "bundle")
    assert "bit for bit the source's" in command("export", "bundle", "--output", "back.bin")
    first, second = (torch.load(path) for path in (source, place / "back.bin"))
    assert list(first) == list(second)
    for name, value in first.items():
        assert value.dtype == second[name].dtype, name
        assert torch.equal(value, second[name]), name
    old = place / "old.bin"
    torch.save(first, old, _use_new_zipfile_serialization=False)
    assert "done" in command("convert", old, "--mlx-path", "other")


TORCH = ("torch", "torchaudio", "pyannote")


def test_without_torch_a_checkpoint_goes_there_and_back(
    torch_checkpoint: Path, tmp_path: Path
) -> None:
    there_and_back(torch_checkpoint, tmp_path, sys.executable)


def test_the_wheel_converts_a_checkpoint_without_torch(
    installed: Path, torch_checkpoint: Path, tmp_path: Path
) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    there_and_back(torch_checkpoint, place, installed / "python")


@pytest.mark.parametrize(
    ("hidden", "kind"),
    [
        (["pyannote"], "segmentation"),
        (["pyannote"], "embedding"),
        (["pyannote"], "full"),
        (["torch"], "segmentation"),
        (["torch", "pyannote"], "segmentation"),
    ],
)
def test_without_pyannote_a_reference_names_the_extra(
    hidden: list[str], kind: str, tmp_path: Path
) -> None:
    said = without(hidden, "convert", f"reference:{kind}", cwd=tmp_path, code=2)
    assert said.stdout == ""
    assert said.stderr.count("\n") == 1
    assert "pip install 'samevoice[parity]'" in said.stderr


def test_the_doctor_works_without_most_of_it(tmp_path: Path) -> None:
    said = without(["torch", "pyannote"], "doctor", cwd=tmp_path, code=0)
    assert "pip install 'samevoice[parity]'" in said.stdout
    assert "✗" not in said.stdout
    said = without(["mlx", "huggingface_hub", "huggingface"], "doctor", cwd=tmp_path, code=0)
    assert "✗ mlx                not installed: runs the models" in said.stdout
    assert "✗ device             ModuleNotFoundError" in said.stdout
    assert said.stderr == ""


def test_without_torch_the_benchmark_measures_samevoice_alone(
    narrow_bundle: Path, tmp_path: Path
) -> None:
    hidden = ["torch", "pyannote", "matplotlib"]
    small = ("bench", "pipeline", "conversion", "--minutes", "0.1", "--runs", "1")
    said = without(hidden, *small, cwd=tmp_path, code=2)
    assert said.stderr.startswith("samevoice: there is no pipeline to measure: pass --model BUNDLE")
    given = ("--model", narrow_bundle)
    said = without(hidden, *small, *given, cwd=tmp_path, code=2)
    assert "which ships a recording, name one: --audio" in said.stderr
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    said = without(hidden, *small, *given, "--audio", "a.wav", cwd=tmp_path, code=0)
    assert "conversion: it needs pyannote.audio" in said.stdout
    assert "no bench.svg" in said.stdout
    (row, *_) = json.loads((tmp_path / "out" / "bench" / "bench.json").read_text())["rows"]
    assert (row["beside"], row["samevoice"]["who"]) == (None, "samevoice")
