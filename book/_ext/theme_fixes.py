"""What the theme leaves undone: MathJax without a network, each script once, names for all."""

from __future__ import annotations

import re
import shutil
import sysconfig
from pathlib import Path

MATHJAX = Path(sysconfig.get_paths()["purelib"]) / "sphinx-mathjax-offline" / "static" / "mathjax"


def copy_mathjax(app, exception) -> None:
    """Put MathJax (one script, its fonts) into the site, so that no formula asks the network."""
    if exception or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "mathjax"
    fonts = Path("output/chtml/fonts")
    if not (target / fonts).exists():
        shutil.copytree(MATHJAX / fonts, target / fonts)
        shutil.copyfile(MATHJAX / "tex-chtml.js", target / "tex-chtml.js")


def each_script_once(app, pagename, templatename, context, doctree) -> None:
    """Drop inline scripts that two extensions added twice (`const` declared again is an error)."""
    seen, keep = set(), []
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        key = attributes.get("body") or str(getattr(script, "filename", script))
        if key not in seen:
            seen.add(key)
            keep.append(script)
    context["script_files"][:] = keep


def plain_names(app, pagename, templatename, context, doctree) -> None:
    """Leave names, operators, brackets and blanks of code as they are: a sixth of a page was their
    markup, for the colour that text has anyway."""
    if "body" in context:
        context["body"] = re.sub(r'<span class="[nopw]">([^<]*)</span>', r"\1", context["body"])


def without_thebe(app) -> None:
    """Jupyter Book loads sphinx-thebe, which writes into every page; the book has no use for it."""
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if x.handler.__module__ != "sphinx_thebe"]


def setup(app):
    app.add_css_file("book.css")
    app.add_css_file("explore.css")
    app.add_js_file("accessible.js", loading_method="defer")
    app.connect("builder-inited", without_thebe, priority=1)
    app.connect("html-page-context", each_script_once, priority=900)
    app.connect("html-page-context", plain_names)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
