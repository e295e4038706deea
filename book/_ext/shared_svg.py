"""Each letter and each style once a page: figures draw texts as outlines, and every line, tick
and letter brings all it needs. Frames of a slider are texts in a script, with quotes escaped."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

#: A letter as matplotlib defines it, alone in its line, in a figure or in the frames of a slider.
GLYPH = re.compile(
    r'<path id=(\\?)"([\w-]+)\1" d=\1"([^"\\]*)\1" transform=\1"scale\(0\.015625\)\1" />'
)

#: What draws in a figure, and its style, unless it has a class already.
STYLED = re.compile(r'(<(?:path|g|use)\b(?![^<>]*\bclass=)[^<>]*?) style=(\\?)"([^"\\<>]*)\2"')


def share_styles(html: str) -> str:
    """The page with styles that return as classes, short names for them."""
    seen = Counter(style for _, _, style in STYLED.findall(html))
    names = {style: f"svg-{i}" for i, (style, n) in enumerate(seen.most_common()) if n > 3}
    if not names:
        return html

    def named(match: re.Match) -> str:
        start, escape, style = match.groups()
        known = f'class={escape}"{names[style]}{escape}"' if style in names else None
        return f"{start} {known}" if known else match[0]

    # no ancestor in a rule: a marker drawn by <use> has none that a rule could see
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return f"<style>{rules}</style>\n{STYLED.sub(named, html)}"


def share_letters(html: str) -> str:
    """The page with its letters defined once, before everything else.

    A definition leaves an empty group in its place: the frames of a slider count lines.
    """
    letters: dict[str, str] = {}  # outline → short name
    names: dict[str, str] = {}  # id in a figure → short name
    for _, name, outline in GLYPH.findall(html):
        key = hashlib.sha256(outline.encode()).hexdigest()[:6]
        names[name] = letters.setdefault(outline, f"g{key}")
    if not names:
        return html
    html = re.sub(r"<defs>\n(?: *<g/>\n)* *</defs>\n", "", GLYPH.sub("<g/>", html))
    html = html.replace(" />", "/>")
    html = re.sub(
        r'href=(\\?)"#([\w-]+)\1"',
        lambda m: f'href={m[1]}"#{names.get(m[2], m[2])}{m[1]}"',
        html,
    )
    drawn = "".join(
        f'<path id="{name}" d="{outline}" transform="scale(.015625)"/>'
        for outline, name in letters.items()
    )
    hidden = 'width="0" height="0" style="position:absolute" aria-hidden="true"'
    return f"<svg {hidden}><defs>{drawn}</defs></svg>\n{html}"


def share_on_page(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        context["body"] = share_letters(share_styles(context["body"]))


def setup(app):
    app.connect("html-page-context", share_on_page, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
