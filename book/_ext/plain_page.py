"""A page's resolved tree, walked once into plain Markdown and code cells.

A construct with no plain form raises and names its place: nothing is lost in silence.
"""

from __future__ import annotations

import html
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import quote as percent

import nbformat
import plain_markdown as md
from assignments import page_text
from docutils import nodes
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat.v4 import new_code_cell, new_markdown_cell
from sphinx.errors import ExtensionError
from sphinx.locale import admonitionlabels

from dynbook.course.source import nbgrader_metadata

LEFT_OUT = {"front-facts", "book-only"}  # classes (and cell tags) that stay in the site
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}  # tags of cells shown closed
SKIPPED = (nodes.comment, nodes.target, nodes.substitution_definition, nodes.Invisible, nodes.meta)
INLINE_HTML = re.compile(r"</?(kbd|sub|sup|br|b|i|u|small|mark|abbr)(\s[^>]*)?/?>")


@dataclass(frozen=True)
class Address:
    """Where the book lives on the web; an empty string is "not known".

    Attributes
    ----------
    site, repository : str
        Address of the built site and of the repository, without a slash at the end.
    branch : str
        Branch the links and the Colab cell point at.
    """

    site: str = ""
    repository: str = ""
    branch: str = "main"


class PlainPage:
    """One page on its way to a notebook.

    Blocks come back as lists of pieces: a piece is Markdown (`str`) or a code cell. A box that
    holds code cells cannot be one Markdown block; it is a bold head with its pieces after it.
    """

    def __init__(self, app, docname: str, address: Address):
        self.app, self.env, self.docname, self.address = app, app.env, docname, address
        text = page_text(self.env.doc2path(docname), docname)
        self.source = read_myst_markdown_notebook(text, add_source_map=True, path=docname)
        starts = self.source.metadata.get("source_map", [0] * len(self.source.cells))
        cells = enumerate(self.source.cells)
        self.pending = [(i, starts[i]) for i, cell in cells if cell.cell_type == "code"]
        self.citations = {
            (c.bibliography_key.docname, c.citation_id): entry_url(c.entry)
            for c in self.env.domaindata.get("cite", {}).get("citations", ())
        }
        self.footnotes: list[str] = []

    def pieces(self, tree: nodes.document) -> list:
        """The whole page: its title first, its footnotes last."""
        pieces = self.children(tree) + self.cells_before(len(self.source.cells))
        return pieces + (self.footnotes and ["---\n\n" + "\n\n".join(self.footnotes)])

    # numbers and addresses

    def number(self, kind: str, node: nodes.Element, docname: str = "") -> str:
        table = self.env.toc_fignumbers.get(docname or self.docname, {}).get(kind, {})
        return next((".".join(map(str, table[i])) for i in node["ids"] if i in table), "")

    def numbered(self, kind: str, node: nodes.Element) -> str:
        """ "Fig. 3.1. ", or nothing for what has no number."""
        number = self.number(kind, node)
        return self.app.config.numfig_format[kind] % number + ". " if number else ""

    def url_of(self, page: str, fragment: str = "") -> str:
        """Address of a place of the book: in the site, else in the repository, else empty."""
        if self.address.site:
            target = self.app.builder.get_target_uri(page) if page in self.env.all_docs else page
            return f"{self.address.site}/{target}" + (f"#{fragment}" if fragment else "")
        in_repository = page in self.env.all_docs and (page != self.docname or not fragment)
        if self.address.repository and in_repository:
            path = self.env.doc2path(page, base=False)
            return f"{self.address.repository}/blob/{self.address.branch}/{path}"
        return ""

    def url(self, node: nodes.reference) -> str:
        if "filename" in node:  # {download}
            site = self.address.site
            return site and f"{site}/_downloads/{percent(node['filename'])}"
        uri = node.get("refuri") or "#" + node.get("refid", "")
        if re.match(r"[a-z]+:", uri):
            return uri
        path, _, fragment = uri.partition("#")
        here = posixpath.dirname(self.app.builder.get_target_uri(self.docname))
        page = posixpath.normpath(posixpath.join(here, path)).removesuffix(".html")
        page = page if path else self.docname
        return self.citations.get((page, fragment)) or self.url_of(page, fragment)

    def picture(self, node: nodes.image) -> str:
        uri, alt = node["uri"], md.escape(node.get("alt", ""))
        if "://" in uri:
            return f"![{alt}]({uri})"
        if self.address.site and uri in self.env.images:
            return f"![{alt}]({self.address.site}/_images/{percent(self.env.images[uri][1])})"
        if self.address.repository:
            raw = f"{self.address.repository}/raw/{self.address.branch}"
            return f"![{alt}]({raw}/{percent(uri)})"
        return f"*(picture: {alt})*"

    # inline

    def inline(self, node: nodes.Element) -> str:
        return "".join(self.span(child) for child in node.children)

    def span(self, node: nodes.Node) -> str:
        match node:
            case nodes.Text():
                text = md.escape(node.astext())
                return text.replace("|", r"\|") if within(node, nodes.entry) else text
            case nodes.math():
                tex = " ".join(node.astext().split())
                return f"${md.bars_spelled(tex) if within(node, nodes.entry) else tex}$"
            case nodes.literal():
                text = md.code_span(node.astext())
                return text.replace("|", r"\|") if within(node, nodes.entry) else text
            case nodes.strong():
                return md.marked("**", self.inline(node))
            case nodes.emphasis() | nodes.title_reference():
                inner = within(node, nodes.emphasis, nodes.caption, nodes.title)
                return md.marked("_" if inner else "*", self.inline(node))
            case nodes.subscript():
                return f"<sub>{self.inline(node)}</sub>"
            case nodes.superscript():
                return f"<sup>{self.inline(node)}</sup>"
            case nodes.footnote_reference():
                return f"<sup>{node.astext()}</sup>"
            case nodes.image():
                return self.picture(node)
            case nodes.reference():
                return md.link(self.inline(node), self.url(node))
            case nodes.raw():
                return self.raw(node)
            case _ if isinstance(node, SKIPPED):
                return ""
        return self.inline(node)

    def line(self, node: nodes.Element) -> str:
        return " ".join(self.inline(node).split())

    # boxes

    def box(self, head: str, body: list) -> list:
        pieces = [f"**{' '.join(head.split())}**", *body]
        return pieces if has_cells(body) else [md.quoted("\n\n".join(pieces))]

    def fold(self, head: str, body: list) -> list:
        """What opens on a click; head is HTML, since Markdown is not read in a summary."""
        if has_cells(body):
            return [f"**{head}**", *body]
        return ["\n\n".join([f"<details>\n<summary>{head}</summary>", *body, "</details>"])]

    def flat(self, node: nodes.Element) -> str:
        """A block's content as one string; where code cells cannot stand (lists, tables, notes)."""
        pieces = self.children(node)
        if has_cells(pieces):
            self.refuse(node, "a code cell inside of it")
        return "\n\n".join(pieces)

    def refuse(self, node: nodes.Node, what: str = "") -> None:
        place = f"{self.env.doc2path(self.docname, base=False)}:{nearest_line(node)}"
        raise ExtensionError(
            f"{place}: no plain form for <{type(node).__name__}>{what and ' with ' + what}. Say it "
            "otherwise, put it into a container of class book-only, or teach "
            "book/_ext/plain_page.py its form."
        )

    # blocks

    def children(self, node: nodes.Element) -> list:
        pieces = []
        for child in node.children:
            if is_section(node) or isinstance(node, nodes.document):
                pieces += self.removed_cells_above(child)
            pieces += self.block(child)
        return [piece for piece in pieces if not isinstance(piece, str) or piece.strip()]

    def block(self, node: nodes.Node) -> list:
        if isinstance(node, SKIPPED) or LEFT_OUT & set(node.get("classes", ())):
            return []
        for cls in type(node).__mro__:
            if method := getattr(self, f"block_{cls.__name__}", None):
                return method(node)
        return self.refuse(node)

    def block_container(self, node):
        if node.get("nb_element") == "cell_code":
            return self.cell_and_caption(node)
        if "nbgrader" in node:
            return [new_markdown_cell(node["text"], metadata={"nbgrader": node["nbgrader"]})]
        if node.get("design_component") == "card":
            return self.block_block_quote(node)
        return self.children(node)

    def block_section(self, node):
        return self.children(node)

    block_legend = block_section
    block_glossary = block_section
    block_versionmodified = block_section

    def block_title(self, node):
        if not is_section(node.parent):
            return [f"**{self.line(node)}**"]
        level = sum(is_section(a) for a in ancestors(node))
        anchor = "" if level == 1 else "#" + node.parent["ids"][0]
        number = self.env.toc_secnumbers.get(self.docname, {}).get(anchor)
        number = ".".join(map(str, number)) + ". " if number else ""
        return [f"{'#' * level} {number}{self.line(node)}"]

    def block_paragraph(self, node):
        return [md.escape_start(self.inline(node).strip())]

    def block_Inline(self, node):
        return [self.span(node)]

    def block_rubric(self, node):
        return [f"**{self.line(node)}**"]

    block_sd_tab_label = block_rubric

    def block_sd_tab_input(self, node):
        return []

    def block_toctree(self, node):
        return []

    block_compound = block_toctree  # the wrapper of a table of contents
    block_docinfo = block_toctree
    block_index = block_toctree

    def block_attribution(self, node):
        return [f"— {self.inline(node)}"]

    def block_caption(self, node):
        return [f"*{self.numbered('code-block', node.parent)}{self.line(node)}*"]

    def block_PassthroughTextElement(self, node):
        """The title of a card, or the link that makes the whole of it clickable."""
        if within(node, "sd-card-title"):
            return [f"**{self.line(node)}**"]
        target = self.url(next(node.findall(nodes.reference)))
        return [md.link(self.line(node.children[0].children[0]), target)] if target else []

    def block_math_block(self, node):
        nested = not (is_section(node.parent) or isinstance(node.parent, nodes.document))
        return [md.display(node.astext(), self.number("displaymath", node), one_line=nested)]

    def block_literal_block(self, node):
        return [md.fence(node.astext(), node.get("language", ""))]

    def block_doctest_block(self, node):
        return [md.fence(node.astext(), "python")]

    def block_transition(self, node):
        return [] if "footnotes" in node["classes"] else ["---"]

    def block_line_block(self, node):
        return ["<br>\n".join(self.inline(line) for line in node.findall(nodes.line))]

    def block_block_quote(self, node):
        return [md.quoted(self.flat(node))]

    block_sidebar = block_block_quote  # and {margin}
    block_topic = block_block_quote

    def block_bullet_list(self, node):
        return ["\n".join(md.listed(self.flat(item), "- ") for item in node.children)]

    def block_enumerated_list(self, node):
        items = enumerate(node.children, node.get("start", 1))
        return ["\n".join(md.listed(self.flat(item), f"{i}. ") for i, item in items)]

    def block_definition_list(self, node):
        items = []
        for item in node.children:
            *terms, body = item.children
            names = ", ".join(f"**{self.line(c)}**" for c in terms if isinstance(c, nodes.term))
            items.append(md.listed(f"{names}: {self.flat(body)}", "- "))
        return ["\n".join(items)]

    def block_field_list(self, node):
        fields = (f"**{self.line(name)}**: {self.flat(body)}" for name, body in node.children)
        return ["\n".join(md.listed(field, "- ") for field in fields)]

    def block_footnote(self, node):
        label, *body = node.children
        text = "\n\n".join(piece for child in body for piece in self.block(child))
        self.footnotes.append(f"<sup>{label.astext()}</sup> {text}")
        return []

    def block_figure(self, node):
        shown = (c for c in node.children if not isinstance(c, nodes.caption))
        return [p for c in shown for p in self.block(c)] + self.figure_caption(node)

    def figure_caption(self, node):
        text = "".join(self.line(c) for c in node.children if isinstance(c, nodes.caption))
        return [f"*{self.numbered('figure', node)}{text}*"] if text else []

    def block_table(self, node):
        titles = [c for c in node.children if isinstance(c, nodes.title)]
        caption = [f"*{self.numbered('table', node)}{self.line(c)}*" for c in titles]
        rows = [[self.table_entry(e) for e in row.children] for row in node.findall(nodes.row)]
        first = next(node.findall(nodes.row))
        if not isinstance(first.parent, nodes.thead):
            rows.insert(0, [""] * len(rows[0]))
        marks = {"text-right": "--:", "text-center": ":-:", "text-left": ":--"}
        rule = [next((marks[c] for c in e["classes"] if c in marks), "---") for e in first.children]
        return [*caption, md.table(rows[0], rule, rows[1:])]

    def table_entry(self, node):
        if node.get("morecols") or node.get("morerows"):
            self.refuse(node, "merged cells")
        if any(not isinstance(c, (nodes.paragraph, nodes.image)) for c in node.children):
            self.refuse(node, "more than paragraphs in a cell")
        return "<br>".join(
            self.span(c) if isinstance(c, nodes.image) else self.line(c) for c in node
        )

    def block_raw(self, node):
        return [self.raw(node)]

    def raw(self, node):
        """Small HTML marks stay; comments and the facts of one build go; the rest is refused."""
        text = node.astext().strip()
        if node["format"] != "html" or text.startswith("<!--") or within(node, "chapter-facts"):
            return ""
        return text if INLINE_HTML.fullmatch(text) else self.refuse(node, text[:40])

    def block_image(self, node):
        return [self.picture(node)]

    def block_Admonition(self, node):
        """Notes and tips; theorems and their kin; exercises; solutions."""
        title = next((c for c in node.children[:1] if isinstance(c, nodes.title)), None)
        kind = node.get("realtype") or node.get("type") or type(node).__name__
        head = self.line(title) if title is not None else ""
        body = [p for c in node.children if c is not title for p in self.block(c)]
        if kind == "solution":
            return self.fold(self.solution_head(node), body)
        if "realtype" in node or kind == "exercise":
            number = self.number(node.get("countertype", kind), node)
            name = kind.capitalize()
            return self.box(f"{name} {number} {head.removeprefix(name)}", body)
        label = admonitionlabels.get(kind, kind.capitalize())
        if "dropdown" in node.get("classes", ()):
            return self.fold(label if title is None else summary(title), body)
        return self.box(head or label, body)

    def solution_head(self, node) -> str:
        target = self.env.sphinx_exercise_registry[node["target_label"]]
        number = self.number("exercise", target["node"], target["docname"])
        return f"Solution to Exercise {number}" if number else "Solution"

    def block_proof_node(self, node):
        proof = node.children[0]
        first, *rest = self.children(proof)  # "Proof. " stands in its first paragraph
        wrap = self.fold if "dropdown" in proof["classes"] else self.box
        return wrap("Proof.", [first.removeprefix("Proof. "), *rest])

    def block_dropdown_main(self, node):
        title, *body = node.children
        words = [c for c in title.findall(nodes.inline) if "sd-summary-text" in c["classes"]]
        head = " ".join(summary(c) for c in words) or "More"
        return self.fold(head, [p for c in body for p in self.block(c)])

    # code cells

    def cell_and_caption(self, node):
        index = node["cell_index"]
        captions = [p for f in node.findall(nodes.figure) for p in self.figure_caption(f)]
        cells = self.cells_before(index + 1)
        return cells + (captions if LEFT_OUT.isdisjoint(self.tags(index)) else [])

    def tags(self, index: int) -> list[str]:
        return list(self.source.cells[index].metadata.get("tags", ()))

    def cells_before(self, index: int) -> list:
        """The code cells not yet written whose place is before the given one."""
        due = [i for i, _ in self.pending if i < index]
        self.pending = self.pending[len(due) :]
        return [self.cell(i) for i in due if LEFT_OUT.isdisjoint(self.tags(i))]

    def removed_cells_above(self, node) -> list:
        """Cells tagged remove-cell have left the tree, but later cells need them."""
        due, line = 0, nearest_line(node)
        for index, start in self.pending:
            if start >= line or "remove-cell" not in self.tags(index):
                break
            due = index + 1
        return self.cells_before(due)

    def cell(self, index: int):
        cell = code_cell(self.source.cells[index].source, self.tags(index))
        if short := self.source.cells[index].metadata.get("nbgrader"):
            cell.metadata["nbgrader"] = nbgrader_metadata(short)
        return cell


def code_cell(source: str, tags: list[str]) -> nbformat.NotebookNode:
    """A cell with its tags; one that is folded in the site starts folded in JupyterLab."""
    metadata = {"tags": tags} if tags else {}
    if FOLDED & set(tags):
        metadata["jupyter"] = {"source_hidden": True}
    return new_code_cell(source, metadata=metadata)


def has_cells(pieces: list) -> bool:
    return any(not isinstance(piece, str) for piece in pieces)


def ancestors(node: nodes.Node):
    while node is not None:
        yield node
        node = node.parent


def within(node: nodes.Node, *kinds: type | str) -> bool:
    """Whether the node lies inside of one of these node types or CSS classes."""
    types = tuple(k for k in kinds if isinstance(k, type))
    return any(
        isinstance(a, types) or not set(kinds).isdisjoint(a.get("classes", ()))
        for a in ancestors(node.parent)
    )


def is_section(node: nodes.Node) -> bool:
    """A section of the page, with a heading; not the inner section of a theorem or an exercise."""
    if not isinstance(node, nodes.section):
        return False
    return isinstance(node.parent, nodes.document) or is_section(node.parent)


def nearest_line(node: nodes.Node) -> int:
    return next((a.line for a in ancestors(node) if a.line), 0)


def summary(node: nodes.Node) -> str:
    """HTML of a title, for `<summary>`, where Markdown is not read."""
    match node:
        case nodes.Text():
            return html.escape(node.astext(), quote=False)
        case nodes.math():
            return f"${html.escape(node.astext(), quote=False)}$"
        case nodes.literal():
            return f"<code>{html.escape(node.astext(), quote=False)}</code>"
        case nodes.raw():
            return ""
    return "".join(summary(child) for child in node.children)


def entry_url(entry) -> str:
    """Where a source can be read: its DOI, its arXiv page or its own address."""
    fields = entry.fields
    if "doi" in fields:
        return "https://doi.org/" + fields["doi"].removeprefix("https://doi.org/")
    if "eprint" in fields:
        return "https://arxiv.org/abs/" + fields["eprint"]
    return fields.get("url", "")
