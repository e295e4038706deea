"""Each letter once a page: figures draw texts as outlines, and every figure brings its own."""

from __future__ import annotations

import hashlib
import re

#: A letter as matplotlib defines it, alone in its line, in a figure or in the frames of a slider.
GLYPH = re.compile(
    r'<path id=(\\?)"([\w-]+)\1" d=\1"([^"\\]*)\1" transform=\1"scale\(0\.015625\)\1" />'
)


def share(html: str) -> str:
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
    html = GLYPH.sub("<g/>", html)
    html = re.sub(
        r'href=(\\?)"#([\w-]+)\1"',
        lambda m: f"href={m[1]}\"#{names.get(m[2], m[2])}{m[1]}\"",
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
        context["body"] = share(context["body"])


def setup(app):
    app.connect("html-page-context", share_on_page, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
