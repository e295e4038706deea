"""`make links`: does what the site links to still exist?

Three answers: good; gone, which means that the server says so (404, 410); and "could not tell" for
all else: servers that refuse programs (401, 403, 429), are ill (5xx), or do not answer. Only what
is gone is a failure, since a reader's browser may well get what a program does not.

Of a DOI its resolver is asked, not the publisher, who refuses programs; arXiv has a host for them.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from urllib.error import HTTPError
from urllib.parse import quote, urldefrag, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .closure import ROOT
from .pages import soup

GONE = (404, 410)
PASSING = (408, 425, 429, 500, 502, 503, 504)  # may be otherwise in a moment
AGENT = "dynbook-links/1 (a book checks its links once a week)"
WORKERS, PER_HOST = 12, 2
LONGEST_WAIT = 20.0  # seconds, whatever a server asks for


@dataclass(frozen=True)
class Verdict:
    """`state` is "good", "gone" or "unsure"; `why` is the status or the error."""

    url: str
    state: str
    why: str


class Stay(HTTPRedirectHandler):
    """The answer itself, not where it leads."""

    def redirect_request(self, *args) -> None:
        return None


def external_links(site: Path) -> dict[str, list[str]]:
    """Address without its fragment → the pages of the site that link to it."""
    found = defaultdict(list)
    for file in sorted(site.rglob("*.html")):
        page = file.relative_to(site).as_posix()
        hrefs = {urldefrag(a["href"]).url for a in soup(file).find_all("a", href=True)}
        for href in sorted(hrefs):
            if urlsplit(href).scheme in ("http", "https"):
                found[href].append(page)
    return dict(found)


def asked(url: str) -> tuple[str, bool]:
    """The address that is asked for a link, and whether its redirections are followed."""
    host = (urlsplit(url).hostname or "").lower()
    if host in ("doi.org", "dx.doi.org"):
        return url, False
    if host in ("arxiv.org", "www.arxiv.org"):
        return url.replace(host, "export.arxiv.org", 1), True
    return url, True


def answer(url: str, method: str, timeout: float, follow: bool) -> tuple[int, str]:
    """Status of one request, and after how many seconds the server wants the next."""
    address = quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    request = Request(address, method=method, headers={"User-Agent": AGENT, "Accept": "*/*"})
    try:
        with build_opener(*([] if follow else [Stay])).open(request, timeout=timeout) as got:
            return got.status, ""
    except HTTPError as error:
        with error:
            return error.code, error.headers.get("Retry-After") or ""


def check(
    url: str, *, timeout: float = 20, tries: int = 3, wait: Callable[[float], None] = time.sleep
) -> Verdict:
    """Ask for the head of a page, then for the page; again, if the answer may pass."""
    where, follow = asked(url)
    why = ""
    for attempt in range(tries):
        pause = 2.0**attempt
        for method in ("HEAD", "GET"):  # some servers know no HEAD, or answer it wrongly
            try:
                status, later = answer(where, method, timeout, follow)
            except (OSError, http.client.HTTPException, ValueError) as error:
                status, later = 0, ""
                why = f"{type(error).__name__}: {error}"
            else:
                why = str(status)
                if status < 400:
                    return Verdict(url, "good", why)
            if status in PASSING or not status:
                pause = float(later) if later.isdigit() else pause
                break
        if status in GONE:
            return Verdict(url, "gone", why)
        if status and status not in PASSING:
            break
        if attempt + 1 < tries:
            wait(min(pause, LONGEST_WAIT))
    return Verdict(url, "unsure", why)


def check_all(urls: Iterable[str], **options) -> list[Verdict]:
    """All of them, a few at a time, and few at one host."""
    hosts: dict[str, Semaphore] = defaultdict(lambda: Semaphore(PER_HOST))
    urls = list(urls)
    for url in urls:
        hosts[urlsplit(url).netloc]

    def politely(url: str) -> Verdict:
        with hosts[urlsplit(url).netloc]:
            return check(url, **options)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(politely, urls))


def report(verdicts: list[Verdict], pages: dict[str, list[str]]) -> str:
    """What was found, as Markdown: for the terminal and for an issue."""
    count = Counter(v.state for v in verdicts)
    lines = [f"{count['good']} good, {count['gone']} gone, {count['unsure']} could not be told."]
    for state, head in (("gone", "Gone"), ("unsure", "Could not tell")):
        chosen = [v for v in verdicts if v.state == state]
        if chosen:
            lines += ["", f"## {head}", ""]
            lines += [f"- {v.url} ({v.why}), on {', '.join(pages[v.url])}" for v in chosen]
    if verdicts and count["unsure"] == len(verdicts):
        lines += ["", "Not one server answered: is there a network here?"]
    return "\n".join(lines) + "\n"


def main(site: Path = ROOT / "_build" / "html") -> int:
    if not (site / "index.html").exists():
        print("There is no site to check yet: run `make book`.")
        return 2
    pages = external_links(site)
    print(f"Asking for {len(pages)} addresses …", flush=True)
    verdicts = check_all(pages)
    text = report(verdicts, pages)
    (site.parent / "links.md").write_text(text, encoding="utf8")
    print(text, end="")
    return 1 if any(v.state == "gone" for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
