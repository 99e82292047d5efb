"""The house is in order: who may import whom, who may ask for a role, and how long things are."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "src"
# Whoever stands further right imports from further left, never the other way. What is in no folder
# and not named here (errors, files, family, outputs, ...) lies below all of them.
ORDER = (
    *("models", "converters", "parity", "evaluation", "precision", "reports"),
    *("release", "port", "cli"),
)
BESIDE_CLI = ("bench", "doctor", "selftest", "__main__")
ROLES = {"segmentation", "embedding", "plda", "full", "pipeline"}
KNOW_ROLES = ("samevoice/parity/roles/", "samevoice/converters/families/")
FAMILIES = "samevoice/converters/families/"
KNOW_FAMILIES = (
    *("samevoice/parity/originals/", "samevoice/parity/authors.py"),
    "samevoice/parity/pipeline/original.py",  # suplime has a pipeline of its own
)
MOST_LINES, LONGEST_FUNCTION = 500, 40


@dataclass(frozen=True)
class Module:
    """A module as its source text says it is; ``path`` as it is imported, below src."""

    path: str
    text: str

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))


@pytest.fixture(scope="module")
def house() -> list[Module]:
    """All of samevoice, the folders at the top through their links."""
    found = [
        Path(folder, file)
        for folder, _, files in os.walk(SOURCES / "samevoice", followlinks=True)
        for file in files
        if file.endswith(".py")
    ]
    return [Module(p.relative_to(SOURCES).as_posix(), p.read_text()) for p in sorted(found)]


# Imports ------------------------------------------------------------------------------------------


def imports(module: Module, known: set[str]) -> Iterator[tuple[str, int]]:
    """Every module of ours that this one imports, and where; inside functions, too.

    A name that is looked up in a table when it is first used is no import: so families are found.
    """
    nodes = module.nodes
    for_types = {id(one) for node in nodes if _is_for_types(node) for one in ast.walk(node)}
    for node in (one for one in nodes if id(one) not in for_types):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module.path}:{node.lineno}: a relative import"
            both = [(node.module, f"{node.module}.{alias.name}") for alias in node.names]
            names = [whole if whole in known else str(plain) for plain, whole in both]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name in known)


def _is_for_types(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


@cache
def place(name: str) -> int:
    """Where in the order a module stands: 0 below all folders."""
    part = (*name.split("."), "")[1]
    if part in BESIDE_CLI:
        return len(ORDER)
    return ORDER.index(part) + 1 if part in ORDER else 0


def upward(modules: list[Module]) -> list[str]:
    known = {one.name for one in modules}
    return [
        f"{one.path}:{line} imports {name}"
        for one in modules
        for name, line in imports(one, known)
        if place(name) > place(one.name)
    ]


def circle(modules: list[Module]) -> list[str]:
    """The lines that close one circle of imports; none where there is no circle."""
    known = {one.name: one for one in modules}
    graph = {name: dict(imports(one, set(known))) for name, one in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # Each stands before what imports it.
        around = error.args[1]
        return [
            f"{known[name].path}:{graph[name][before]} imports {before}"
            for before, name in pairwise(around)
        ]
    return []


def test_no_circle_of_imports(house: list[Module]) -> None:
    assert circle(house) == []


def test_no_import_runs_back_up_the_order(house: list[Module]) -> None:
    assert upward(house) == []


# What a role is, is asked of roles and families ---------------------------------------------------


def comparisons(modules: list[Module]) -> list[str]:
    """Comparisons with the name of a role, alone or among others, and cases of a match."""
    return [
        f"{one.path}:{node.lineno} compares with {min(said)!r}"
        for one in modules
        if not one.path.startswith(KNOW_ROLES)
        for node in one.nodes
        if isinstance(node, ast.Compare | ast.MatchValue)
        and (said := {name for side in _sides(node) for name in _strings(side)} & ROLES)
    ]


def _sides(node: ast.Compare | ast.MatchValue) -> list[ast.expr]:
    return [node.left, *node.comparators] if isinstance(node, ast.Compare) else [node.value]


def _strings(side: ast.expr) -> Iterator[str]:
    if isinstance(side, ast.Constant | ast.Tuple | ast.Set | ast.List):
        for one in ast.walk(side):
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                yield one.value


def test_nothing_compares_with_the_name_of_a_role(house: list[Module]) -> None:
    assert comparisons(house) == []


# What only one family has, stands in its files ----------------------------------------------------


def names_of_families(modules: list[Module]) -> list[str]:
    """Strings of the harness that are the name of a family's file, such as an authors' package."""
    files = {one.path.rpartition("/")[2] for one in modules if one.path.startswith(FAMILIES)}
    families = {file.removesuffix(".py") for file in files} - ROLES
    return [
        f"{one.path}:{node.lineno} names {node.value!r}"
        for one in modules
        if one.path.startswith("samevoice/parity/") and not one.path.startswith(KNOW_FAMILIES)
        for node in one.nodes
        if isinstance(node, ast.Constant) and str(node.value).strip(".") in families
    ]


def test_the_harness_names_no_family(house: list[Module]) -> None:
    assert names_of_families(house) == []


# Lengths ------------------------------------------------------------------------------------------


def long_functions(modules: list[Module]) -> list[str]:
    """Commands may be longer: their signatures say what each option is."""
    return [
        f"{one.path}:{node.lineno} {node.name} has {length} lines"
        for one in modules
        if not one.path.startswith("samevoice/cli/")
        for node in one.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]


def long_modules(modules: list[Module]) -> list[str]:
    return [
        f"{one.path}:{count} is the last line"
        for one in modules
        if (count := len(one.text.splitlines())) > MOST_LINES
    ]


def test_no_function_is_longer_than_a_screen(house: list[Module]) -> None:
    assert long_functions(house) == []


def test_no_module_is_too_long(house: list[Module]) -> None:
    assert long_modules(house) == []


# Each rule can fail -------------------------------------------------------------------------------


def test_each_rule_names_what_breaks_it(house: list[Module]) -> None:
    assert len(house) > 100
    low = Module(
        "samevoice/models/low.py",
        "from typing import TYPE_CHECKING\n"
        "def f(kind):\n"
        "    from samevoice.parity import high\n"
        "    return kind in ('plda', 'other')\n",
    )
    high = Module(
        "samevoice/parity/high.py",
        "import_module('samevoice.models.low')\n"
        "if TYPE_CHECKING:\n"
        "    from samevoice.cli import top\n"
        "match kind:\n"
        "    case 'full': pass\n" + "def g():\n" + "    x = 1\n" * LONGEST_FUNCTION,
    )
    top = Module("samevoice/cli/top.py", "x = 1\n" * (MOST_LINES + 1))
    inside = Module("samevoice/parity/roles/plda.py", "is_data = role == 'plda'\n")
    made = [low, high, top, inside]
    assert upward(made) == ["samevoice/models/low.py:3 imports samevoice.parity.high"]
    assert sorted(circle(made)) == [
        "samevoice/models/low.py:3 imports samevoice.parity.high",
        "samevoice/parity/high.py:1 imports samevoice.models.low",
    ]
    assert comparisons(made) == [
        "samevoice/models/low.py:4 compares with 'plda'",
        "samevoice/parity/high.py:5 compares with 'full'",
    ]
    family = Module("samevoice/converters/families/paw.py", "")
    knows = Module("samevoice/parity/knows.py", "\nWRITTEN_IN = ('torchaudio.', 'paw.')\n")
    original = Module("samevoice/parity/originals/paw.py", "NAME = 'paw'\n")
    assert names_of_families([family, knows, original]) == [
        "samevoice/parity/knows.py:2 names 'paw.'"
    ]
    assert long_functions(made) == ["samevoice/parity/high.py:6 g has 41 lines"]
    assert long_modules(made) == ["samevoice/cli/top.py:501 is the last line"]
