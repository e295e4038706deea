"""Every chapter as a plain notebook: Markdown and code that Jupyter and Colab show as they stand.

After the HTML build the resolved tree of each page with code cells is walked once more. By then
Sphinx knows every number, title, citation and quoted value, so directives and roles become ordinary
Markdown: boxes are block quotes with a bold head, what can be folded is `<details>`, an equation
carries its `\\tag`, and code comes from the source, with its tags, without outputs.

Two forms are written, because a committed file must not depend on who built it:

- `_build/notebooks/`, the form committed under `book/notebooks/`, is a function of the sources
  alone: links point at the web only if `_config.yml` itself gives an address (`repository.url`, or
  `html.baseurl` for the site). A fork, or a clone without an origin, writes the same bytes.
- `book/notebooks/` in the site, the form to download, has the addresses of whoever built the site
  (for example the fork's, taken from its GitHub origin): the values `book_*_url` of the build.

A committed notebook still serves a fork on Colab: its first code cell asks Colab from which GitHub
repository and branch it was opened, and fetches the book's code from exactly there. Colab does not
document that answer, so the cell falls back on the address written into it, and with neither it
says in one line what to do. Off Colab the cell does nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import plain_markdown as md
import yaml
from assignments import FOLDER as ASSIGNMENTS
from docutils import nodes
from nbformat.v4 import new_markdown_cell, new_notebook
from plain_page import Address, PlainPage, code_cell
from sphinx.errors import ExtensionError

HAND_IN = """\
*Write where it says YOUR CODE HERE or YOUR ANSWER HERE, and hand in this notebook. Cells of your
own are welcome; do not delete those that are here. Before you hand in, restart the kernel and run
all cells.*"""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

COLAB = """\
# On Colab: fetch the book's code at the branch of this notebook. Elsewhere: see that it is there.
import sys
from importlib.util import find_spec

if "google.colab" in sys.modules:
    import os, re, subprocess
    from urllib.parse import unquote
    from urllib.request import urlopen

    book, address, branch = "/content/dynbook-book", {repository}, {branch}
    try:  # Colab's own server knows from where on GitHub this notebook was opened
        server = "http://{{COLAB_JUPYTER_IP}}:{{KMP_TARGET_PORT}}/api/sessions".format_map(os.environ)
        opened = unquote(unquote(urlopen(server, timeout=5).read().decode()))
    except (KeyError, OSError):
        opened = ""
    here = re.search(r"(https://github\\.com/[^/]+/[^/]+)/blob/(.+?)/book/notebooks/", opened)
    if here:
        address, branch = here.groups()
    if address and not os.path.exists(f"{{book}}/dynbook"):
        subprocess.run(["git", "init", "-q", book], check=True)
        subprocess.run(["git", "-C", book, "fetch", "-q", "--depth=1", address, branch], check=True)
        subprocess.run(["git", "-C", book, "checkout", "-q", "FETCH_HEAD"], check=True)
    if os.path.exists(f"{{book}}/dynbook"):
        sys.path.insert(0, book)
    else:
        print(f"Open this notebook from its GitHub repository, or clone that into {{book}} first.")
    if not find_spec("jaxtyping"):
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "jaxtyping"], check=True)
elif not find_spec("dynbook"):
    words = "this notebook needs the book's package: in a clone of its repository, run"
    raise ModuleNotFoundError(f"{{words}} pip install -e '.[notebooks]'")"""


def notebook(page: PlainPage, tree: nodes.document) -> nbformat.NotebookNode:
    """The page as a notebook: its title, the cell for Colab, then everything else."""
    head, *rest = page.pieces(tree)
    path = page.env.doc2path(page.docname, base=False)
    if not isinstance(head, str) or not head.startswith("# "):
        raise ExtensionError(f"{path}: a page with code must begin with its title, `# …`")
    source = md.link(md.code_span(path), page.url_of(page.docname))
    origin = f"*Made from {source}: change that file, not this one.*"
    if page.docname.startswith(ASSIGNMENTS):
        origin = HAND_IN
    colab = COLAB.format(
        repository=json.dumps(page.address.repository), branch=json.dumps(page.address.branch)
    )
    cells = [
        new_markdown_cell(f"{head}\n\n{origin}"),
        code_cell(colab, ["hide-input"]),
        *markdown_cells(rest),
    ]
    name_cells(page.docname, cells)
    return new_notebook(cells=cells, metadata=METADATA)


def markdown_cells(pieces: list) -> list[nbformat.NotebookNode]:
    """Pieces as cells: Markdown runs together up to a code cell or a heading."""
    cells: list[nbformat.NotebookNode] = []
    for piece in pieces:
        if not isinstance(piece, str):
            cells.append(piece)
        elif cells and is_text(cells[-1]) and not re.match("#+ ", piece):
            cells[-1].source += "\n\n" + piece
        else:
            cells.append(new_markdown_cell(piece))
    return cells


def is_text(cell: nbformat.NotebookNode) -> bool:
    """Markdown of the page, not a place for an answer."""
    return cell.cell_type == "markdown" and "nbgrader" not in cell.metadata


def name_cells(page: str, cells: list[nbformat.NotebookNode]) -> None:
    """Give each cell an id made of its page and content, which outlives edits elsewhere."""
    seen: Counter[tuple[str, str]] = Counter()
    for cell in cells:
        seen[cell.cell_type, cell.source] += 1
        cell.id = cell_id(page, cell.cell_type, cell.source, seen[cell.cell_type, cell.source])


def cell_id(page: str, kind: str, source: str, occurrence: int) -> str:
    """Id of a page's cell: the first, second, … of its kind with this source."""
    return hashlib.sha256(f"{page}\n{kind}\n{source}\n{occurrence}".encode()).hexdigest()[:12]


def written_address(app) -> Address:
    """What `_config.yml` itself says, whoever builds the book."""
    path = Path(app.srcdir, "_config.yml")
    config = yaml.safe_load(path.read_text(encoding="utf8")) if path.exists() else {}
    repository = config.get("repository") or {}
    return Address(
        site=((config.get("html") or {}).get("baseurl") or "").rstrip("/"),
        repository=(repository.get("url") or "").rstrip("/"),
        branch=repository.get("edition") or repository.get("branch") or "main",
    )


def found_address(app) -> Address:
    """What was settled for this build, with the clone's own origin where nothing is written."""
    written, config = written_address(app), app.config
    return Address(
        site=(config.book_site_url or written.site).rstrip("/"),
        repository=(config.book_repository_url or written.repository).rstrip("/"),
        branch=config.book_repository_branch or written.branch,
    )


def write_notebooks(app, exception) -> None:
    """Write both forms of every page that has a kernel, and remove those of pages that are gone."""
    if exception or app.builder.name != "html":
        return
    site = Path(app.outdir)
    pages = sorted(d for d in app.env.found_docs if "kernelspec" in app.env.metadata.get(d, {}))
    committed, offered = site.parent / "notebooks", site / "book" / "notebooks"
    wanted = {
        folder / f"{page.removeprefix('book/')}.ipynb": (page, address)
        for folder, address in ((committed, written_address(app)), (offered, found_address(app)))
        for page in pages
    }
    stamp, now = committed / ".made-from", fingerprint(app)
    if all(f.exists() for f in [stamp, *wanted]) and stamp.read_text() == now:
        return
    for stale in {*committed.rglob("*.ipynb"), *offered.rglob("*.ipynb")} - set(wanted):
        stale.unlink()
    for path, (page, address) in wanted.items():
        tree = app.env.get_and_resolve_doctree(page, app.builder)
        written = notebook(PlainPage(app, page, address), tree)
        nbformat.validate(written)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(nbformat.writes(written).rstrip() + "\n", "utf-8", newline="\n")
    committed.mkdir(exist_ok=True)
    stamp.write_text(now)


def fingerprint(app) -> str:
    """What the notebooks are made from: pages as Sphinx read them, numbers, addresses, this code.

    Walking the trees costs seconds a chapter; with nothing changed, `make book` is to take few.
    """
    env, code = app.env, sorted(Path(__file__).parent.glob("plain_*.py"))
    trees = [Path(app.doctreedir, f"{page}.doctree") for page in sorted(env.found_docs)]
    read = [(str(f), f.stat().st_mtime_ns) for f in [*trees, *code]]
    numbers = env.toc_secnumbers, env.toc_fignumbers
    text = repr((read, numbers, written_address(app), found_address(app)))
    return hashlib.sha256(text.encode()).hexdigest()


def setup(app):
    for name in ("book_site_url", "book_repository_url", "book_repository_branch"):
        app.add_config_value(name, "", "", str)  # for whoever knows the clone (page_buttons)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
