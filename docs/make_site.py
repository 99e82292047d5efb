"""Build the site strictly: a broken link is an error, and so is a page that index.md leaves out.

The pages are written for GitHub: plain Markdown, with links from file to file. Beside OUTPUT they
are laid together with those of the repository's top, and what only the site has is added: the
sidebar, from the sections of index.md, the commands, from the command itself, and a report.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

import commands_page
import links
from sphinx.cmd.build import build_main

DOCS = Path(__file__).resolve().parent
TOP = (
    *("CONTRIBUTING.md", "SECURITY.md", "SUPPORT.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md"),
    "action.yml",
)
SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", flags=re.MULTILINE)
# What a-real-report.md ends with: links that lead nowhere but on the site.
REPORT = """
- <a href="parity/report.html">report.html</a>: the page
- <a href="parity/report.md">report.md</a>: the same for a pull request
- <a href="parity/junit.xml">junit.xml</a>: the same for CI
- <a href="parity/result.json">result.json</a>: every figure, from which the others are made

<a href="parity/report.html"><img src="parity/plots/ladder.svg" alt="The error of every layer"></a>
"""
STRICT = ("-W", "--keep-going", "-n", "-q")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder for the site; what is in it is replaced")
    parser.add_argument("--report", type=Path, required=True, help="folder that parity wrote")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
    asked = parser.parse_args()
    source = asked.output.with_name(f"{asked.output.name}-source")
    for folder in (source, asked.output):
        shutil.rmtree(folder, ignore_errors=True)
    lay_out(asked.docs, source)
    if code := build_main([*STRICT, "-c", str(DOCS), str(source), str(asked.output)]):
        return code
    shutil.copytree(asked.report, asked.output / "parity", ignore=shutil.ignore_patterns("golden"))
    found = [*links.faults(asked.output)]
    sys.stderr.write("".join(f"{one}\n" for one in found))
    return 1 if found else 0


def lay_out(docs: Path, source: Path) -> None:
    """All pages in one folder, with links to each other as they then lie."""
    shutil.copytree(docs, source)
    for name in TOP:
        shutil.copy(DOCS.parent / name, source)
    for page in source.glob("*.md"):
        text = page.read_text(encoding="utf-8").replace("](../", "](").replace("](docs/", "](")
        if page.name == "index.md":
            text += sidebar(text)
        if page.name == "commands.md":
            text += commands_page.reference()
        if page.name == "a-real-report.md":
            text += REPORT
        page.write_text(text, encoding="utf-8")


def sidebar(index: str) -> str:
    """The sections of index.md, each with the pages that it links, as Sphinx wants them."""
    found = []
    for name, text in SECTION.findall(index):
        pages = re.findall(r"^- \[(.+)\]\(([\w-]+)\.md\)", text, flags=re.MULTILINE)
        entries = [f"{title} <{page}>" for title, page in pages]
        found += ["```{toctree}", ":hidden:", f":caption: {name}", *entries, "```", ""]
    return "\n".join(found)


if __name__ == "__main__":
    sys.exit(main())
