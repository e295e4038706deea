"""Where this copy of the book lives: its repository, its branch or edition, its site."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from .closure import ROOT

GITHUB = re.compile(r"(?:https://|git@|ssh://git@)github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?$")


@dataclass(frozen=True)
class Address:
    """`url` of the repository on GitHub, its `branch`, the `site` that Pages gives it, and the
    `edition`, a tag that readers are led to; without one they are led to the branch."""

    url: str
    branch: str
    site: str
    edition: str = ""

    @property
    def reading(self) -> str:
        """The branch or tag of what readers see."""
        return self.edition or self.branch

    def file(self, path: str) -> str:
        """Page that shows a file of the repository."""
        return f"{self.url}/blob/{self.reading}/{path}"

    def edit(self, path: str) -> str:
        """Page that edits a file of the repository."""
        return f"{self.url}/edit/{self.branch}/{path}"

    def colab(self, path: str) -> str:
        """Colab, opening a notebook of the repository."""
        name = self.url.removeprefix("https://github.com/")
        return f"https://colab.research.google.com/github/{name}/blob/{self.reading}/{path}"


def address(root: Path = ROOT) -> Address | None:
    """Address by `repository.url` of _config.yml, else the clone's GitHub `origin`, else None.

    Raises
    ------
    ValueError
        If `repository.url` is set and no GitHub repository.
    """
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    repository = config.get("repository") or {}
    written = repository.get("url") or ""
    if written and not GITHUB.match(written):
        raise ValueError(
            "repository.url in _config.yml must be https://github.com/OWNER/NAME, "
            f"got {written!r}; leave it empty to take the clone's origin"
        )
    safe = f"safe.directory={root}"  # a clone of another owner (a container's mount) tells too
    ask = ["git", "-c", safe, "-C", str(root), "remote", "get-url", "origin"]
    try:
        origin = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git here
        origin = ""
    found = GITHUB.match(written or origin)
    if not found:
        return None
    owner, name = found.groups()
    pages = f"https://{owner.lower()}.github.io"
    site = pages if name.lower() == f"{owner}.github.io".lower() else f"{pages}/{name}"
    branch, edition = repository.get("branch") or "main", repository.get("edition") or ""
    return Address(f"https://github.com/{owner}/{name}", branch, site, edition)
