"""A page that is not there: 404.html, as GitHub Pages serves it, in any folder of any site."""

from __future__ import annotations

import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from test_pages import violations


class Pages(SimpleHTTPRequestHandler):
    """Serves a site below a path, and 404.html with status 404 for all that is missing."""

    below = "/"

    def log_message(self, *args) -> None:
        pass

    def translate_path(self, path: str) -> str:
        inside = path.startswith(self.below)
        return super().translate_path("/" + path[len(self.below) :] if inside else "/absent")

    def send_error(self, code, message=None, explain=None) -> None:
        html = open(f"{self.directory}/404.html", encoding="utf8").read()
        html = re.sub(r'(<base id="root" href=)"[^"]*"', rf'\1"{self.known}"', html)
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(html.encode())


@pytest.fixture(params=[("/", "/"), ("/notes/", "/notes/"), ("/", "/notes/")], ids=str)
def site(request, book):
    """A site at a path; and the path that the book was built for, of which a preview has none."""
    below, known = request.param
    kind = type("Here", (Pages,), {"below": below, "known": known})
    handler = partial(kind, directory=str(book / "html"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{below}"
        server.shutdown()


@pytest.mark.parametrize("path", ["absent.html", "book/absent.html", "book/reference/a/b/c/"])
def test_a_missing_page_leads_back_from_any_folder(path, site, read_at):
    viewer = read_at(site)
    tab = viewer.tab
    assert tab.goto(site + path).status == 404
    assert tab.locator("h1").inner_text() == "There is no such page"
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert violations(tab) == []
    links = tab.locator("a").evaluate_all("links => links.map(a => a.href)")
    assert len(links) == 8 and all(tab.request.get(link).ok for link in links)
    tab.locator("input[name=q]").fill("newman")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?q=newman")
    assert tab.locator(".search-list a").first.inner_text() == "Newman’s spectrum"
    tab.goto(site + path)
    tab.get_by_role("link", name="its front page").click()
    tab.wait_for_url(f"{site}index.html")
    wrong = [c for c in viewer.complaints if path not in c and "status of 404" not in c]
    assert wrong == []
