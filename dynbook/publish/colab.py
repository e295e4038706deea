"""A place that a notebook takes for Colab: its server, its GitHub, its `/content`; no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

PRETEND = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
CONTENT = "/content/dynbook-book"


class Sessions(BaseHTTPRequestHandler):
    """Colab's own server, asked for the open notebook."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([{"path": self.server.opened}]).encode())

    def log_message(self, *args) -> None:
        pass


@contextmanager
def colab(folder: Path, github: Path, opened: str) -> Iterator[dict[str, str]]:
    """Environment variables under which Python believes to be on Colab.

    Parameters
    ----------
    folder : Path
        An empty folder for what the pretence needs.
    github : Path
        What git finds in place of https://github.com: `github/OWNER/NAME` are repositories.
    opened : str
        What Colab's server says of the open notebook, "" for one that it says nothing of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(PRETEND)
    server = HTTPServer(("127.0.0.1", 0), Sessions)
    server.opened = opened
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "PYTHONPATH": str(folder),
            "COLAB_JUPYTER_IP": "127.0.0.1",
            "KMP_TARGET_PORT": str(server.server_port),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{github}/.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/",
        }
    finally:
        server.shutdown()
        server.server_close()


def opened_from(owner_and_name: str, branch: str, path: str) -> str:
    """What Colab's server says of a notebook that was opened from GitHub."""
    address = f"https://github.com/{owner_and_name}/blob/{branch}/{path}"
    return "fileId=" + address.replace(":", "%3A").replace("/", "%2F")


def moved(code: str, content: Path) -> str:
    """A notebook's first cell, which clones into another folder than Colab's."""
    if CONTENT not in code:
        raise ValueError(f"the first cell must clone into {CONTENT}, got {code[:200]!r}")
    return code.replace(CONTENT, content.as_posix())
