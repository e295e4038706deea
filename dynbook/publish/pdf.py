"""`make pdf`: the built book as one PDF, `_build/dynbook.pdf`.

A Chromium prints each page of the site from its file; the prints are then joined, with a table of
contents, an outline, page numbers, and links between the book's pages that stay in the PDF.
"""

from __future__ import annotations

import html
import io
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    Fit,
    NameObject,
    NullObject,
    create_string_object,
)
from pypdf.generic import FloatObject as Float

from .address import address
from .bundle import commit_time, git
from .closure import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
INSIDE = "http://inside.invalid/"  # a link to INSIDE + page + "#" + id becomes one to its place
LEFT_OUT = (
    "index",
    "book/reference/api/",
    *(f"book/reference/{n}" for n in ("runtimes", "performance", "changelog")),
)
SHEET, MARGIN = 842, 51  # points: height of A4, and its upper margin of 18 mm
SCALE, WIDTH = 0.8, 816  # of the paper, and of its text in CSS pixels: (210 - 2 · 19) mm / SCALE
PAPER = {
    "format": "A4",
    "scale": SCALE,
    "print_background": True,
    "margin": {"top": "18mm", "bottom": "20mm", "left": "19mm", "right": "19mm"},
}
STYLE = """
    @page { size: A4; }
    #jb-print-docs-body, .bd-sidebar, .search-button, dialog, .skip-link {
        display: none !important; }
    .bd-article h1 { display: block !important; }
    .bd-article { padding: 0 !important; }
    .bd-article section, .bd-content, .bd-main, .bd-container { overflow: visible !important; }
    .bd-article :is(h1, h2, h3, h4, .admonition-title) { break-after: avoid; }
    pre, pre span, .bd-article code, .bd-article code .pre {
        white-space: pre-wrap !important; overflow-wrap: anywhere; }
"""
# All formulas set, all pictures there, and what is wider than the paper made smaller.
READY = """async () => {
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    for (const image of document.images) image.loading = 'eager';
    await Promise.all([...document.images].map(i => i.decode().catch(() => 0)));
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const fits = e => e.scrollWidth <= e.clientWidth + 1;
    for (const e of document.querySelectorAll('article table, article div.math'))
        for (let zoom = .95; !fits(e) && zoom > .3; zoom -= .05) e.style.zoom = zoom;
}"""
WIDE = """() => [...document.querySelectorAll(
        'article :is(table, div.math, pre, .theme-svg, .theme-svg svg, img)')]
    .filter(e => e.checkVisibility() && (
        e.scrollWidth > e.clientWidth + 1 && !e.closest('svg, mjx-container') && e.tagName != 'IMG'
        || e.getBoundingClientRect().right > innerWidth + 1))
    .map(e => e.tagName + ' ' + e.className + ': ' + e.textContent.trim().slice(0, 60))"""
# Every id is named by a hidden link, since Chromium keeps only places that links lead to.
MARK = """([here, inside, site, root, known]) => {
    for (const link of document.querySelectorAll('article a[href]')) {
        const url = new URL(link.getAttribute('href'), location);
        if (url.protocol != 'file:') continue;
        const path = decodeURIComponent(url.href.split(/[?#]/)[0]).slice(root.length);
        const page = path.replace(/[.]html$/, '');
        if (known.includes(page)) link.href = inside + page + url.hash;
        else if (site) link.href = site + '/' + path + url.hash;
        else link.removeAttribute('href');
    }
    for (const h of document.querySelectorAll('article section[id] > :is(h1, h2, h3, h4)'))
        h.id ||= 'at:' + h.parentElement.id;
    const names = document.createElement('div');
    names.style.display = 'none';
    for (const place of document.querySelectorAll('article [id]')) {
        if (place.closest('svg, mjx-container')) continue;
        const link = names.appendChild(document.createElement('a'));
        link.href = '#' + encodeURIComponent(place.id);
    }
    document.body.append(names);
    return [...document.querySelectorAll('article :is(h1, h2, h3)')]
        .filter(h => h.checkVisibility()).map(h => {
            const words = h.cloneNode(true);
            words.querySelectorAll('.headerlink').forEach(e => e.remove());
            words.querySelectorAll('mjx-container').forEach(
                e => e.replaceWith(e.getAttribute('aria-label') || e.textContent));
            return {level: +h.tagName[1], title: words.textContent.trim().replace(/\\s+/g, ' '),
                place: h.closest('section[id]')?.id ?? ''};
        });
}"""
FRONT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
    @page {{ size: A4; }} body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0; }}
    .title {{ break-after: page; padding-top: 55mm; }}
    .title h1 {{ font-size: 44px; line-height: 1.15; }}
    a {{ color: inherit; text-decoration: none; }}
    li a {{ display: flex; justify-content: space-between; gap: 2em; }}
    ul {{ list-style: none; padding-left: 0; }} ul ul {{ padding-left: 1.6em; }}
    .part {{ font-weight: 600; margin: 1.1em 0 .3em; break-after: avoid; }}
</style><body><div class="title"><h1>{title}</h1><p>{author}</p><p>{edition}</p>{site}
<p>Text and figures CC BY 4.0, code MIT.</p>
<p>Code that the pages fold is not printed: it stands in the plain notebooks, book/notebooks in the
repository. Sliders show one frame. The reference of the package is only on the site.</p></div>
<h1 id="contents">Contents</h1>{contents}</body></html>"""


@dataclass
class Print:
    """A page of the book as Chromium printed it: its headings, and where its ids came to stand."""

    name: str
    reader: PdfReader
    headings: list[dict]
    places: dict[str, tuple[int, float]]
    start: int = 0


def find_browser() -> str:
    """Path of a Chromium.

    Raises
    ------
    FileNotFoundError
        If none is installed.
    """
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise FileNotFoundError(
            "no Chromium: install the package `chromium` (or Google Chrome), which prints the pages"
        )
    return path


def parts(root: Path = ROOT) -> Iterator[tuple[str, list[str]]]:
    """Captions of the book's parts, and their pages that are printed."""
    table = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))
    for part in table["parts"]:
        pages = [page["file"] for page in part["chapters"]]
        yield part["caption"], [p for p in pages if not p.startswith(LEFT_OUT)]


def places_of(reader: PdfReader) -> dict[str, tuple[int, float]]:
    """Page and height of each named place of a print; a section's is its heading's (`at:`)."""
    found = {}
    for name, place in reader.named_destinations.items():
        number = reader.get_destination_page_number(place)
        if number is not None and number >= 0:
            top = float(place.top) if isinstance(place.top, (int, float)) else SHEET
            # Chromium counts from the sheet's edge, and forgets margin and scale
            found[unquote(name.lstrip("/"))] = (number, SHEET - MARGIN - SCALE * (SHEET - top))
    return found | {k[3:]: v for k, v in found.items() if k.startswith("at:")}


def print_page(tab: Page, site: Path, name: str, known: list[str], url: str = "") -> Print:
    """Print a page of the site; links to pages that are `known` stay inside, others go to `url`."""
    tab.goto((site / f"{name}.html").as_uri(), wait_until="load")
    tab.add_style_tag(content=STYLE)
    tab.evaluate(READY)
    headings = tab.evaluate(MARK, [name, INSIDE, url, f"{site.as_uri()}/", known])
    reader = PdfReader(io.BytesIO(tab.pdf(**PAPER)))
    return Print(name, reader, headings, places_of(reader))


def front(tab: Page, words: dict[str, str], prints: list[Print], root: Path) -> PdfReader:
    """Title and table of contents; printed twice, since its own length moves the numbers."""
    by_name, pages = {p.name: p for p in prints}, 0
    for _ in range(2):
        start = pages
        for made in prints:
            made.start, start = start, start + len(made.reader.pages)
        lines = []
        for caption, names in parts(root):
            rows = [contents_row(by_name[n]) for n in names if n in by_name]
            if rows:
                lines.append(f'<p class="part">{caption}</p><ul>{"".join(rows)}</ul>')
        tab.set_content(FRONT.format(**words, contents="".join(lines)))
        reader = PdfReader(io.BytesIO(tab.pdf(**PAPER)))
        pages = len(reader.pages)
    return reader


def contents_row(made: Print) -> str:
    """A page and its sections, as lines of the table of contents."""

    def line(heading: dict) -> str:
        number = made.start + made.places.get(heading["place"], (0, 0))[0] + 1
        target = html.escape(f"{INSIDE}{made.name}#{heading['place']}")
        title = html.escape(heading["title"])
        return f'<a href="{target}"><span>{title}</span><span>{number}</span></a>'

    first, *rest = made.headings
    inner = "".join(f"<li>{line(h)}</li>" for h in rest if h["level"] == 2)
    return f"<li>{line(first)}<ul>{inner}</ul></li>"


def lead_inside(writer: PdfWriter, prints: list[Print]) -> None:
    """Make links to the book's pages links to places of this PDF."""
    by_name = {made.name: made for made in prints}
    for page in writer.pages:
        for item in page.get("/Annots") or ():
            link = item.get_object()
            target = str(link.get("/A", {}).get("/URI", ""))
            if not target.startswith(INSIDE):
                continue
            parts = urlsplit(target)
            made = by_name.get(unquote(parts.path[1:]))
            number, top = (
                made.places.get(unquote(parts.fragment), (0, SHEET)) if made else (0, SHEET)
            )
            there = writer.pages[made.start + number if made else 0].indirect_reference
            spot = [there, NameObject("/XYZ"), NullObject(), Float(round(top, 1)), NullObject()]
            del link[NameObject("/A")]
            link[NameObject("/Dest")] = ArrayObject(spot)


def outline(writer: PdfWriter, prints: list[Print], root: Path) -> None:
    """Parts, chapters and sections in the margin of a reader."""
    by_name = {made.name: made for made in prints}
    for caption, names in parts(root):
        here = [by_name[n] for n in names if n in by_name]
        if not here:
            continue
        parents = {0: writer.add_outline_item(title=caption, page_number=here[0].start)}
        for made in here:
            for heading in made.headings:
                number, top = made.places.get(heading["place"], (0, SHEET))
                level = heading["level"]
                parent = next(parents[k] for k in range(level - 1, -1, -1) if k in parents)
                item = writer.add_outline_item(
                    title=heading["title"],
                    page_number=made.start + number,
                    parent=parent,
                    fit=fit_at(top),
                    is_open=level > 1,
                )
                parents = {k: v for k, v in parents.items() if k < level} | {level: item}


def fit_at(top: float) -> Fit:
    """A view of a page from a height downwards, at the reader's own size."""
    return Fit.xyz(left=None, top=round(top, 1), zoom=None)


def number_pages(writer: PdfWriter) -> None:
    """Write its number at the foot of each page but the title."""
    font = writer._add_object(
        DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
    )

    def stream(content: str):
        made = DecodedStreamObject()
        made.set_data(content.encode())
        return writer._add_object(made)

    before = stream("q\n")
    for number, page in enumerate(writer.pages, 1):
        if number == 1:
            continue
        resources = page["/Resources"].get_object()
        fonts = resources.setdefault(NameObject("/Font"), DictionaryObject()).get_object()
        fonts[NameObject("/FootFont")] = font
        left = float(page.mediabox.width) / 2 - 0.278 * 9 * len(str(number))  # a digit is .556 em
        foot = stream(f"\nQ\nq 0 g BT /FootFont 9 Tf {left:.1f} 28 Td ({number}) Tj ET Q\n")
        old = page.raw_get("/Contents")
        old = list(old) if isinstance(old, ArrayObject) else [old]
        page[NameObject("/Contents")] = ArrayObject([before, *old, foot])


def join(first: PdfReader, prints: list[Print], words: dict[str, str], root: Path) -> PdfWriter:
    """One PDF of all prints."""
    writer = PdfWriter()
    for reader in (first, *(made.reader for made in prints)):
        for page in reader.pages:
            page.pop("/StructParents", None)  # the tags of a print are not joined
            writer.add_page(page)
    lead_inside(writer, prints)
    outline(writer, prints, root)
    number_pages(writer)
    writer.compress_identical_objects()
    day = time.strftime("D:%Y%m%d%H%M%SZ", time.gmtime(commit_time(root)))
    about = {"/Title": words["title"], "/Author": words["author"], "/Subject": words["edition"]}
    writer.metadata = about | {"/Producer": "dynbook", "/CreationDate": day, "/ModDate": day}
    writer.root_object[NameObject("/Lang")] = create_string_object("en")
    writer.root_object[NameObject("/PageMode")] = NameObject("/UseOutlines")
    return writer


def title_words(root: Path = ROOT) -> dict[str, str]:
    """What the title page says of this copy."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    day = time.strftime("%Y-%m-%d", time.gmtime(commit_time(root)))
    commit = git("rev-parse", "--short", "HEAD", root=root) or "unknown"
    where = address(root)
    site = f'<p><a href="{where.site}">{where.site}</a></p>' if where else ""
    return {
        "title": config["title"],
        "author": config["author"],
        "edition": f"{day}, commit {commit}",
        "site": site,
    }


def pdf(target: Path, names: list[str] | None = None, root: Path = ROOT) -> Path:
    """Print the built book.

    Parameters
    ----------
    target : Path
        File to write.
    names : list of str, optional
        Pages of _toc.yml; without it all but the front page and the reference of the package.

    Raises
    ------
    FileNotFoundError
        If the book was not built, or no Chromium is installed.
    """
    site = root / "_build" / "html"
    if not (site / "index.html").exists():
        raise FileNotFoundError(f"no site in {site}: `make book` comes first")
    known = names or [page for _, pages in parts(root) for page in pages]
    where, words = address(root), title_words(root)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        tab = printing_tab(browser)
        prints = [
            print_page(tab, site, name, ["index", *known], where.site if where else "")
            for name in known
        ]
        first = front(tab, words, prints, root)
        browser.close()
    writer = join(first, prints, words, root)
    half = target.with_suffix(".part")
    writer.write(half)
    half.replace(target)
    return target


def printing_tab(browser: Browser) -> Page:
    """A tab as wide as the paper's text, which shows what will be printed."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": 1100}, color_scheme="light", reduced_motion="reduce"
    )
    tab = context.new_page()
    tab.emulate_media(media="print")
    return tab


def main() -> int:
    start = time.monotonic()
    try:
        made = pdf(ROOT / "_build" / "dynbook.pdf")
    except FileNotFoundError as problem:
        print(f"pdf: {problem}", file=sys.stderr)
        return 1
    pages, size = len(PdfReader(made).pages), made.stat().st_size / 1e6
    seconds = time.monotonic() - start
    print(f"The book in print: {made}, {pages} pages, {size:.1f} MB, in {seconds:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
