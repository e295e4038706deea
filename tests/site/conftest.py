"""A browser, a server on loopback, and a reader who looks at every page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser_path(install) -> str:
    """A Chromium of the system, installed here if this is Debian and we may."""
    if not find_browser():
        install("chromium")
    path = find_browser()
    if path is None:
        pytest.fail(
            "the site tests need a Chromium: install the package `chromium` "
            "(Debian: apt install chromium; macOS and Windows: Google Chrome will do)",
            pytrace=False,
        )
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        """Requests are the page's business, not the terminal's."""


@pytest.fixture(scope="session")
def address(book) -> Iterator[str]:
    """The built site on a port of loopback."""
    handler = partial(Quiet, directory=str(book / "html"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@dataclass
class Viewer:
    """A tab in one mode, and what it complained about since the page was opened."""

    tab: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def open(self, name: str) -> Page:
        """Go to a page of the toc and wait until its formulas are set."""
        self.complaints.clear()
        self.tab.goto(f"{self.address}/{name}.html", wait_until="load")
        self.tab.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        return self.tab


def watch(context: BrowserContext, address: str) -> Viewer:
    """A tab that notes errors, and lets no request leave the site."""
    viewer = Viewer(context.new_page(), address)
    note = viewer.complaints.append

    def gate(route: Route) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            note(f"asks the network for {route.request.url}")
            route.abort()

    context.route("**/*", gate)
    tab = viewer.tab
    tab.on("pageerror", lambda error: note(f"script error: {error}"))
    tab.on("console", lambda m: m.type in ("error", "warning") and note(f"console: {m.text}"))
    tab.on("response", lambda r: r.status >= 400 and note(f"{r.status} for {r.url}"))
    return viewer


@pytest.fixture(scope="session")
def browser(browser_path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def read_at(browser) -> Iterator[Callable[[str], Viewer]]:
    """Opens a tab on a phone for the site at an address."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    yield lambda address: watch(context, address)
    context.close()


@pytest.fixture
def context(browser) -> Iterator[BrowserContext]:
    """A screen that is wide, and light until a test darkens it."""
    context = browser.new_context(
        viewport={"width": 1200, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    yield context
    context.close()


@pytest.fixture
def viewer(context, address) -> Viewer:
    """A reader of the site on its server."""
    return watch(context, address)


@pytest.fixture
def viewer_of_files(context) -> Callable[[Path], Viewer]:
    """A reader of the site in a folder, by file:// and nothing else."""
    return lambda folder: watch(context, folder.as_uri())
