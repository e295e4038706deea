"""The buttons at the top of a page: Colab, the plain notebook, print, source, edit.

Buttons that need the repository's address (dynbook.publish.address) are absent when there is none.
The notebook offered for download is the plain one that plain_notebooks.py writes into the site.
"""

from __future__ import annotations

from pathlib import Path

from assignments import FOLDER as ASSIGNMENTS

from dynbook.publish.address import address


def notebook_path(page: str) -> str:
    """Where a page's plain notebook lies, in the site as in the repository."""
    return f"book/notebooks/{page.removeprefix('book/')}.ipynb"


def link(text: str, url: str, icon: str, tooltip: str, label: str) -> dict[str, str]:
    return {
        "type": "link",
        "text": text,
        "url": url,
        "icon": icon,
        "tooltip": tooltip,
        "label": label,
    }


def group(icon: str, tooltip: str, label: str, buttons: list[dict]) -> dict:
    return {"type": "group", "icon": icon, "tooltip": tooltip, "label": label, "buttons": buttons}


def add_buttons(app, pagename, templatename, context, doctree) -> None:
    """Put this page's buttons before the theme's own (full screen)."""
    if doctree is None or pagename not in app.env.found_docs:
        return
    where, buttons = app.dynbook_address, []
    source = Path(app.env.doc2path(pagename)).relative_to(app.srcdir).as_posix()
    printing = {
        "type": "javascript",
        "javascript": "window.print()",
        "text": "Print or save as PDF",
        "icon": "fas fa-print",
        "tooltip": "Print this page",
        "label": "print-button",
    }
    downloads = [printing]
    if "kernelspec" in app.env.metadata[pagename]:
        path = notebook_path(pagename)
        if where:
            open_in = link(
                "Colab", where.colab(path), "fas fa-rocket", "Open in Colab", "colab-button"
            )
            buttons.append(group("fas fa-rocket", "Run this page", "launch-buttons", [open_in]))
        here = link(
            "Notebook",
            context["pathto"](path, 1),
            "fas fa-code",
            "Plain .ipynb",
            "download-notebook",
        )
        downloads.insert(0, here)
    buttons.append(group("fas fa-download", "Take this page away", "download-buttons", downloads))
    if where and not pagename.startswith(ASSIGNMENTS):  # whose source has the solutions
        links = [
            link(
                "Repository", where.url, "fab fa-github", "Source repository", "repository-button"
            ),
            link(
                "Source",
                where.file(source),
                "fas fa-file-lines",
                "This page's source",
                "source-button",
            ),
            link(
                "Suggest an edit", where.edit(source), "fas fa-pen", "Edit this page", "edit-button"
            ),
        ]
        buttons.append(group("fab fa-github", "Source of this page", "source-buttons", links))
    context["header_buttons"][:0] = buttons


def settle_address(app, config) -> None:
    """Tell everybody the address; keep the theme from making buttons of its own from it."""
    where = app.dynbook_address = address()
    config.book_address = repr(where)
    config.html_theme_options |= {"repository_url": "", "launch_buttons": {}}
    if where:
        config.book_repository_url = where.url
        config.book_repository_branch = where.reading
        config.book_site_url = config.book_site_url or config.html_baseurl or where.site


def setup(app):
    app.setup_extension("plain_notebooks")
    app.add_config_value("book_address", "", "html", str)  # another address: write every page anew
    app.connect("config-inited", settle_address)
    app.connect("html-page-context", add_buttons, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
