"""`make speed`: how long a page takes to show on a slow phone, as a table in _build/speed.md.

The phone is Chromium with the processor slowed down four times, behind "Fast 3G" as Chromium's own
tools have it: 1.44 Mbit/s, 562 ms from a request to its answer. Files come compressed, as GitHub
Pages sends them; the bytes are those on the wire.
"""

from __future__ import annotations

import gzip
import shutil
import statistics
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from .closure import ROOT
from .pages import toc_pages

FAST_3G = {
    "offline": False,
    "latency": 562.5,  # ms
    "downloadThroughput": 180_000,  # bytes a second
    "uploadThroughput": 84_375,
}
SLOWDOWN = 4
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WATCH = """() => {
    window.seen = {lcp: 0, cls: 0, moved: []};
    new PerformanceObserver(list => list.getEntries().forEach(e => seen.lcp = e.startTime))
        .observe({type: 'largest-contentful-paint', buffered: true});
    new PerformanceObserver(list => list.getEntries().forEach(e => {
        seen.cls += e.value;
        seen.moved.push(...e.sources.map(s => s.node?.nodeName + '.' + s.node?.className));
    })).observe({type: 'layout-shift', buffered: true}); }"""
READ = """async () => {
    await window.MathJax?.startup?.promise;
    await new Promise(done => setTimeout(done, 300));
    const files = performance.getEntriesByType('resource').concat(
        performance.getEntriesByType('navigation'));
    return {requests: files.length, bytes: files.reduce((sum, f) => sum + f.transferSize, 0),
        fcp: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity,
        ...seen}; }"""


@dataclass(frozen=True)
class Visit:
    """What one first visit to a page took: times in seconds, the rest as counted."""

    requests: int
    bytes: int
    fcp: float
    lcp: float
    cls: float


@cache
def packed(file: Path, changed: int) -> bytes:
    """A file as GitHub Pages sends it."""
    return gzip.compress(file.read_bytes(), 6)


class Packing(SimpleHTTPRequestHandler):
    """Serves a folder, its texts compressed."""

    protocol_version = "HTTP/1.1"
    texts = (".html", ".css", ".js", ".svg", ".json", ".txt")

    def log_message(self, *args) -> None:
        """Requests are the page's business, not the terminal's."""

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if file.suffix not in self.texts or not file.is_file():
            return super().do_GET()
        body = packed(file, file.stat().st_mtime_ns)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(file)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """A page that is left while it loads hangs up; that is no news."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a folder on a port of loopback."""
    handler = partial(Packing, directory=str(folder))
    with Server(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def visit(browser, address: str, width: int = 390) -> Visit:
    """Open a page for the first time on the slow phone."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme="light")
    tab = context.new_page()
    tools = context.new_cdp_session(tab)
    tools.send("Network.enable")
    tools.send("Network.emulateNetworkConditions", FAST_3G)
    tools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
    tab.add_init_script(f"({WATCH})()")
    tab.goto(address, wait_until="load", timeout=120_000)
    read = tab.evaluate(READ)
    context.close()
    return Visit(
        read["requests"], read["bytes"], read["fcp"] / 1000, read["lcp"] / 1000, read["cls"]
    )


def measure(site: Path, pages: Iterable[str], times: int = 3) -> dict[str, Visit]:
    """The median of some first visits to each page.

    Raises
    ------
    RuntimeError
        If there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise RuntimeError("no Chromium: install the package `chromium`")
    taken = {}
    with serving(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        for page in pages:
            visits = [visit(browser, f"{address}/{page}.html") for _ in range(times)]
            taken[page] = Visit(
                *(
                    statistics.median(getattr(v, name) for v in visits)
                    for name in Visit.__dataclass_fields__
                )
            )
        browser.close()
    return taken


def table(taken: dict[str, Visit]) -> str:
    """The visits as a Markdown table."""
    rows = [
        "| page | requests | KB | first paint (s) | largest paint (s) | layout shift |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {page} | {v.requests} | {v.bytes / 1000:.0f} "
        f"| {v.fcp:.2f} | {v.lcp:.2f} | {v.cls:.3f} |"
        for page, v in taken.items()
    ]
    return "\n".join(rows) + "\n"


def main(pages: list[str]) -> int:
    site = ROOT / "_build" / "html"
    if not (site / "index.html").exists():
        print("There is no site yet: make book")
        return 2
    chosen = pages or [p for p in toc_pages() if "/api/" not in p]
    unknown = [p for p in chosen if not (site / f"{p}.html").exists()]
    if unknown:
        print(f"Not in the site: {', '.join(unknown)}; a page is named as in _toc.yml")
        return 2
    report = table(measure(site, chosen))
    (ROOT / "_build" / "speed.md").write_text(report, encoding="utf8")
    print(report, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
