"""What others read of the site: descriptions, cards for links, sitemap.xml, robots.txt, 404.html.

Addresses must be absolute in most of it, so what needs one is left out while the site's is unknown.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from plain_text import UNSAID, plain_text

from dynbook.publish.card import HEIGHT, WIDTH, draw_card

SHORTEST, LONGEST = 50, 160  # characters of a description
SENTENCE_END = re.compile(r"(?<=[.?!])(?<!\b[A-Z]\.)(?<! al\.)(?<!e\.g\.)(?<!i\.e\.) ")
CARD = "_static/social-card.png"


def description(title: str, tree: nodes.document, book: str) -> str:
    """The first sentences of a page that can be said without a formula, 50 to 160 characters."""
    said = ""
    for paragraph in tree.findall(nodes.paragraph):
        for sentence in re.split(SENTENCE_END, plain_text(paragraph)):
            longer = f"{said} {sentence}".strip()
            whole = sentence.endswith((".", "?", "!")) and UNSAID not in sentence
            if whole and (len(longer) <= LONGEST or len(said) < SHORTEST):
                said = longer
        if len(said) >= SHORTEST:
            break
    if len(said) < SHORTEST:
        said = f"{title}, a page of the book {book}. {said}".strip()
    if len(said) > LONGEST:
        said = said[: LONGEST - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"
    return said


def tags(title: str, words: str, book: str, site: str, page: str) -> dict[str, str]:
    """Open Graph and Twitter; with the site's address also where the page and its picture are."""
    meta = {
        "description": words,
        "og:title": title,
        "og:description": words,
        "og:type": "website" if title == book else "article",
        "og:site_name": book,
        "og:locale": "en",
        "twitter:card": "summary",
    }
    if site:
        alt = "Orbits of gradient descent against its learning rate: fixed points, cycles, chaos."
        meta |= {
            "og:url": f"{site}/{page}",
            "og:image": f"{site}/{CARD}",
            "og:image:width": str(WIDTH),
            "og:image:height": str(HEIGHT),
            "og:image:alt": alt,
            "twitter:card": "summary_large_image",
        }
    return meta


def element(name: str, content: str) -> str:
    key = "property" if name.startswith("og:") else "name"
    return f'<meta {key}="{name}" content="{html.escape(content)}" />'


def add_tags(app, pagename, templatename, context, doctree) -> None:
    """Put the tags into the head; a description of the page's own front matter is kept."""
    if doctree is None:  # search and indexes: tools, nothing that others should find
        context["book_head"] = element("robots", "noindex")
        return
    book = app.config.html_title
    title = re.sub(r"<[^>]*>", "", context.get("title", "")) or book
    title = html.unescape(title)
    if pagename == app.config.root_doc:
        title = book
    context["metatags"] = re.sub(r'<meta name="viewport"[^>]*>', "", context.get("metatags", ""))
    own = re.search(r'<meta\b[^>]*name="description"[^>]*>', context["metatags"])
    words = description(title, doctree, book)
    if own and (written := re.search(r'content="([^"]*)"', own[0])):
        words = html.unescape(written[1])
        context["metatags"] = context["metatags"].replace(own[0], "")
    page = "" if pagename == app.config.root_doc else app.builder.get_target_uri(pagename)
    meta = tags(title, words, book, app.config.book_site_url, page)
    if "pageurl" in context and not page:
        context["pageurl"] = meta.get("og:url", context["pageurl"])  # one address of the front page
    context["book_head"] = "\n".join(element(*pair) for pair in meta.items())


def settle_site(app, config) -> None:
    """The canonical address of each page is Sphinx's work, once it knows the site."""
    if config.book_site_url and not config.html_baseurl:
        config.html_baseurl = config.book_site_url.rstrip("/") + "/"


def write_files(app, exception) -> None:
    """The files at the root of the site that are no pages of the book."""
    if exception or app.builder.name != "html":
        return
    out, site = Path(app.outdir), app.config.book_site_url.rstrip("/")
    if not (out / CARD).exists():
        draw_card(out / CARD, app.config.html_title)
    robots = "User-agent: *\nAllow: /\n"
    if site:
        root = app.config.root_doc
        uris = [
            "" if p == root else app.builder.get_target_uri(p) for p in sorted(app.env.found_docs)
        ]
        lines = [f"  <url><loc>{html.escape(f'{site}/{uri}')}</loc></url>" for uri in sorted(uris)]
        (out / "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
            + "\n".join(lines)
            + "\n</urlset>\n",
            encoding="utf8",
        )
        robots += f"Sitemap: {site}/sitemap.xml\n"
    else:
        (out / "sitemap.xml").unlink(missing_ok=True)
    (out / "robots.txt").write_text(robots, encoding="utf8")
    (out / "404.html").write_text(missing_page(app, site), encoding="utf8")


def missing_page(app, site: str) -> str:
    """What a server shows in place of a page that is not there, in whatever folder."""
    chapters = [
        (app.builder.get_target_uri(page), plain_text(app.env.titles[page]))
        for page in sorted(app.env.found_docs)
        if re.match(r"book/\d", page)
    ]
    root = urlsplit(site).path + "/"
    context = {"book": app.config.html_title, "root": root, "chapters": chapters}
    return app.builder.templates.render("404.html", context)


def setup(app):
    app.setup_extension("page_buttons")  # knows the address
    app.connect("config-inited", settle_site, priority=600)
    app.connect("html-page-context", add_tags, priority=950)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
