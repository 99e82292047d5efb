"""Whether every link inside built pages leads somewhere, to the anchor, and nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself, and the attribute that names it.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """The anchors of a page, where it leads, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if (name := LOADED.get(tag, "")) in named:
            self.loads.append(named[name])


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def faults(site: Path) -> Iterator[str]:
    """In words, each link that leads nowhere and each thing that is loaded from elsewhere."""
    site = site.resolve()
    for path in sorted(site.rglob("*.html")):
        page, name = read(path), path.relative_to(site)
        for link in dict.fromkeys([*page.links, *page.loads]):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{name}: loads {link}"
            elif fault := _fault(site, path, unquote(parts.path), unquote(parts.fragment)):
                yield f"{name}: {link}: {fault}"
    for path in sorted(site.rglob("*.css")):
        for link in IN_STYLES.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: loads {link}"


def _fault(site: Path, page: Path, where: str, anchor: str) -> str:
    target = (page.parent / where).resolve() if where else page
    if not target.is_relative_to(site) or not target.is_file():
        return "there is no such file"
    if anchor and target.suffix == ".html" and anchor not in read(target).anchors:
        return "there is no such anchor"
    return ""
