"""What the search finds: sections, theorems, exercises, words of the glossary, functions.

Sphinx's own index knows pages and words, shows TeX and code around a hit, fetches every page for
that, and does not know the title of a theorem. So each page, when it is written, leaves a small
file of entries (title, kind, address, words); together they are `search-entries.js`, which the
search page loads as a script: that works from a server, from a folder and without a network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from plain_text import plain_text
from sphinx import addnodes

FUNCTIONS = {"function", "class", "method", "exception", "data"}
SEPARATE = (nodes.title, nodes.section, addnodes.glossary, addnodes.desc)


def entry(title: str, kind: str, anchor: str, text: str, where: str = "") -> dict[str, str]:
    return {"title": title, "kind": kind, "anchor": anchor, "text": text, "where": where}


def entries(app, page: str, tree: nodes.document) -> list[dict[str, str]]:
    """Entries of a page in the order of its text; the page itself is the first."""
    found, top = [], plain_text(app.env.titles[page])
    for node in tree.findall(nodes.Element):
        if isinstance(node, nodes.section) and isinstance(
            node.parent, nodes.section | nodes.document
        ):
            found.append(section(node, page == "index" or not found, top))
        elif kind_of_box(node) not in ("", "solution"):
            found.append(box(app, page, node, top))
        elif isinstance(node, nodes.definition_list_item) and isinstance(
            node.parent.parent, addnodes.glossary
        ):
            term, text = node.children[0], plain_text(node.children[-1])
            found.append(entry(plain_text(term), "term", f"#{term['ids'][0]}", text, top))
        elif isinstance(node, addnodes.desc) and node["objtype"] in FUNCTIONS:
            found.append(function(node))
    return found


def section(node: nodes.section, is_page: bool, top: str) -> dict[str, str]:
    """A section with its own words, not those of the sections, boxes and functions in it."""
    title = next((plain_text(c) for c in node.children if isinstance(c, nodes.title)), top)
    own = [c for c in node.children if not isinstance(c, SEPARATE) and not kind_of_box(c)]
    text = " ".join(filter(None, map(plain_text, own)))
    if is_page:
        return entry(title, "page", "", text)
    return entry(title, "section", f"#{node['ids'][0]}", text, top)


def kind_of_box(node: nodes.Element) -> str:
    """ "theorem" and its kin, "exercise", "solution", or nothing for what is no such box."""
    kind = node.get("realtype") or node.get("type")
    return kind if "realtype" in node or kind in ("exercise", "solution") else ""


def box(app, page: str, node: nodes.Element, top: str) -> dict[str, str]:
    """A numbered box: its kind with its number, its title, what it says."""
    kind = kind_of_box(node)
    numbers = app.env.toc_fignumbers.get(page, {}).get(node.get("countertype", kind), {})
    number = next((".".join(map(str, numbers[i])) for i in node["ids"] if i in numbers), "")
    title, *body = node.children
    head = rf"^(?:{kind})?\s*(?:{re.escape(number)})?\s*"
    name = re.sub(head, "", plain_text(title), flags=re.IGNORECASE)
    name = re.sub(r"^\((.*)\)$", r"\1", name)
    label = f"{kind.capitalize()} {number}".strip()
    text = " ".join(map(plain_text, body))
    return entry(name or label, label, f"#{node['ids'][0]}", text, top)


def function(node: addnodes.desc) -> dict[str, str]:
    """A function, class or method of the package, by its own name."""
    signature = node.children[0]
    module, name = signature["module"], signature["fullname"]
    text = plain_text(node.children[-1], without=(nodes.field_list, addnodes.desc))
    return entry(name, node["objtype"], f"#{module}.{name}", text, module)


def folder(app) -> Path:
    return Path(app.doctreedir) / "search-entries"


def keep(app, pagename, templatename, context, doctree) -> None:
    """A page that is written leaves its entries beside Sphinx's own record of it."""
    if doctree is None or app.builder.name != "html":
        return
    file = folder(app) / f"{pagename}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(entries(app, pagename, doctree)), encoding="utf8")


def gather(app, exception) -> None:
    """All entries as one script, in the order of the pages' names."""
    if exception or app.builder.name != "html":
        return
    pages = []
    for page in sorted(app.env.found_docs):
        file = folder(app) / f"{page}.json"
        if file.exists():
            url = app.builder.get_target_uri(page)
            pages.append([url, json.loads(file.read_text(encoding="utf8"))])
    text = json.dumps(pages, ensure_ascii=False, separators=(",", ":"))
    script = Path(app.outdir) / "search-entries.js"
    script.write_text(f"var searchEntries={text};\n", encoding="utf8")


def setup(app):
    app.connect("html-page-context", keep, priority=400)
    app.connect("build-finished", gather)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
