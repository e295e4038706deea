"""External links: gone is what a server says is gone; all other trouble is no verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from dynbook.publish import links
from dynbook.publish.links import asked, check, check_all, external_links, main


class Server(BaseHTTPRequestHandler):
    """/404 answers 404; /moved leads to /200, /dead to /404; /get knows no HEAD; /ill gets well."""

    seen: ClassVar[Counter] = Counter()
    busy = most = 0
    lock = threading.Lock()

    def log_message(self, *args) -> None:
        pass

    def status(self) -> int:
        word, head = self.path[1:].split("?")[0], self.command == "HEAD"
        match word:
            case "moved" | "dead":
                return 302
            case "get":
                return 405 if head else 200
            case "liar":
                return 404 if head else 200
            case "ill":
                return 503 if self.seen[self.path] < 3 else 200
        return int(word)

    def answer(self) -> None:
        with self.lock:
            Server.seen[self.path] += 1
            Server.busy += 1
            Server.most = max(Server.most, Server.busy)
        if "slow" in self.path:
            time.sleep(0.05)
        self.send_response(self.status())
        leads = {"/moved": "/200", "/dead": "/404"}
        if self.path in leads:
            self.send_header("Location", leads[self.path])
        if self.path == "/429":
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", "0")
        with self.lock:
            Server.busy -= 1
        self.end_headers()

    do_GET = do_HEAD = answer


@pytest.fixture
def server():
    Server.seen.clear()
    Server.busy = Server.most = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("200", "good"),
        ("moved", "good"),
        ("get", "good"),
        ("liar", "good"),
        ("ill", "good"),
        ("404", "gone"),
        ("410", "gone"),
        ("dead", "gone"),
        ("401", "unsure"),
        ("403", "unsure"),
        ("429", "unsure"),
        ("500", "unsure"),
    ],
)
def test_the_verdict_on(path, state, server):
    verdict = check(f"{server}/{path}", wait=lambda seconds: None)
    assert (verdict.state, verdict.url) == (state, f"{server}/{path}")


def test_trouble_that_may_pass_is_waited_for_and_the_rest_is_not(server):
    waits: list[float] = []
    check(f"{server}/500", wait=waits.append)
    assert waits == [1, 2] and Server.seen["/500"] == 3
    waits.clear()
    check(f"{server}/429", wait=waits.append)
    assert waits == [7, 7]
    waits.clear()
    check(f"{server}/403", wait=waits.append)
    assert waits == [] and Server.seen["/403"] == 2


def test_who_does_not_answer_is_not_gone():
    verdict = check("http://127.0.0.1:9/", tries=1)
    assert verdict.state == "unsure" and "refused" in verdict.why
    assert check("http://no-such-host.invalid/", tries=1).state == "unsure"


def test_a_server_that_hangs_is_left(server, monkeypatch):
    monkeypatch.setattr(Server, "answer", lambda self: time.sleep(1))
    monkeypatch.setattr(Server, "do_HEAD", lambda self: time.sleep(1))
    began = time.monotonic()
    assert check(f"{server}/200", timeout=0.2, tries=1).state == "unsure"
    assert time.monotonic() - began < 0.9


def test_a_doi_is_asked_of_its_resolver_and_arxiv_of_its_host_for_programs(server, monkeypatch):
    assert asked("https://doi.org/10.1000/1") == ("https://doi.org/10.1000/1", False)
    assert asked("https://arxiv.org/abs/1234.5678") == (
        "https://export.arxiv.org/abs/1234.5678",
        True,
    )
    monkeypatch.setattr(links, "asked", lambda url: (url, False))
    assert check(f"{server}/dead").state == "good"  # the resolver knows it, whatever lies behind
    assert Server.seen == {"/dead": 1}


def test_one_host_is_asked_politely(server):
    verdicts = check_all([f"{server}/200?slow={i}" for i in range(20)])
    assert {v.state for v in verdicts} == {"good"}
    assert 1 <= Server.most <= links.PER_HOST


@pytest.fixture
def site(tmp_path, server):
    def site(*paths: str):
        anchors = "".join(f'<a href="{server}/{path}#part">x</a>' for path in paths)
        folder = tmp_path / "html"
        folder.mkdir(exist_ok=True)
        page = (
            f"<html><body><a href='b.html'>b</a><a href='mailto:a@b'>m</a>{anchors}</body></html>"
        )
        for name in ("index.html", "b.html"):
            (folder / name).write_text(page)
        links.soup.cache_clear()
        return folder

    return site


def test_only_what_is_gone_fails(site, server, capsys, tmp_path):
    assert list(external_links(site("200", "200"))) == [f"{server}/200"]
    assert main(site("200", "403")) == 0
    assert "1 good, 0 gone, 1 could not be told." in capsys.readouterr().out
    assert main(site("200", "404")) == 1
    said = (tmp_path / "links.md").read_text()
    assert f"- {server}/404 (404), on b.html, index.html" in said
    assert said in capsys.readouterr().out


def test_without_a_network_it_says_so_and_without_a_site_too(site, tmp_path, capsys, monkeypatch):
    def unreachable(*args):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(links, "answer", unreachable)
    monkeypatch.setattr(links.time, "sleep", lambda s: None)
    monkeypatch.setitem(links.check.__kwdefaults__, "wait", lambda s: None)
    assert main(site("200")) == 0
    assert "is there a network here?" in capsys.readouterr().out
    assert main(tmp_path / "absent") == 2
    assert "make book" in capsys.readouterr().out
