"""What can be checked on a built site without a browser: which pages there are, links, weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup

from .closure import ROOT


def toc_pages(root: Path = ROOT) -> list[str]:
    """Names of all pages of _toc.yml, in reading order."""

    def walk(node) -> Iterator[str]:
        if isinstance(node, list):
            for child in node:
                yield from walk(child)
        elif isinstance(node, dict):
            if name := node.get("root") or node.get("file"):
                yield name
            for key in ("parts", "chapters", "sections"):
                yield from walk(node.get(key, []))

    return list(walk(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))))


@cache
def soup(page: Path) -> BeautifulSoup:
    """A built page, parsed once."""
    return BeautifulSoup(page.read_text(encoding="utf8"), "html.parser")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Everything on a page that a link can point at."""
    tags = soup(page).find_all(lambda t: t.get("id") or t.get("name"))
    return frozenset(t.get(key) for t in tags for key in ("id", "name") if t.get(key))


def broken_links(site: Path, page: str) -> list[str]:
    """Links, images and scripts of a page that lead to nothing in the site."""
    here, broken = site / f"{page}.html", []
    for tag in soup(here).find_all(["a", "img", "script", "link", "source"]):
        target = tag.get("href") or tag.get("src")
        parts = urlsplit(target or "")
        if not target or parts.scheme or parts.netloc:
            continue
        there = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        there = there / "index.html" if there.is_dir() else there
        fragment = unquote(parts.fragment)
        if not there.exists():
            broken.append(target)
        elif fragment and there.suffix == ".html" and fragment not in anchors(there):
            broken.append(target)
    return broken


def own_weight(site: Path, page: str) -> int:
    """Bytes of a page's HTML and of its own images, without the theme's styles and files."""
    here = site / f"{page}.html"
    images = {urlsplit(i["src"]).path for i in soup(here).find_all("img") if i.get("src")}
    files = [(here.parent / unquote(i)).resolve() for i in images if not i.startswith("data:")]
    styles = sum(len(str(s).encode()) for s in soup(here).select("style[data-sheets]"))
    images = sum(f.stat().st_size for f in files if "_static" not in f.parts)
    return here.stat().st_size - styles + images


def heavy_figures(site: Path, page: str, limit: int = 150_000) -> list[str]:
    """Figures of a page, inline or linked, above a number of bytes."""
    here, heavy = site / f"{page}.html", []
    for svg in soup(here).select("article svg"):
        if len(str(svg).encode()) > limit:
            heavy.append(f"{svg.get('aria-label') or 'an SVG'}: {len(str(svg).encode())} bytes")
    for image in soup(here).select("article img[src]"):
        src = image["src"]
        file = (here.parent / unquote(urlsplit(src).path)).resolve()
        size = len(src) if src.startswith("data:") else file.stat().st_size if file.exists() else 0
        if size > limit:
            heavy.append(f"{image.get('alt') or src[:80]}: {size} bytes")
    return heavy


def without_alt(site: Path, page: str) -> list[str]:
    """Figures that say nothing to who cannot see them: no text, or a file name in its place."""
    article = soup(site / f"{page}.html").find("article")
    silent = []
    for image in article.find_all("img"):
        alt = (image.get("alt") or "").strip()
        if not alt or (" " not in alt and "/" in alt):
            silent.append(image.get("src", "an image")[:80])
    for svg in article.select(".theme-svg svg"):
        if not (svg.get("aria-label") or "").strip() or svg.get("role") != "img":
            silent.append(
                f"inline SVG after {svg.find_previous(['p', 'h1', 'h2']).get_text()[:60]!r}"
            )
    return silent
