"""`make edition TERM=2027-spring`: a tag, and links that stay with it.

A student who opens last year's notebook on Colab must meet last year's book. So an edition is a
commit whose links (Colab, source of a page) name its own tag, and that tag:

1. `_config.yml`: `repository.edition` becomes the term; where `repository.url` is empty, it becomes
   the address of the clone's origin, so that a copy in a student's Drive knows where to ask.
2. `CHANGELOG.md`: what was unreleased becomes the section of the edition, with its date.
3. The plain notebooks are written anew, commit and annotated tag are made. Nothing is pushed.
"""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .address import address
from .book import build
from .closure import ROOT

TERM = re.compile(r"\d{4}-[a-z0-9]+(-[a-z0-9]+)*")
UNRELEASED = "## [Unreleased]\n"


class EditionError(Exception):
    """Why no edition was made, in words; nothing was changed."""


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    if done.returncode:
        raise EditionError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def refuse_unless_ready(root: Path, term: str) -> None:
    """Raise unless the term is a name and the clone a clean main without that tag."""
    if not TERM.fullmatch(term):
        raise EditionError(
            f"a term is a year and a word in small letters, like 2027-spring; got {term!r}"
        )
    branch = git(root, "branch", "--show-current")
    if branch != "main":
        raise EditionError(f"editions are made on main; this is {branch or 'no branch'}")
    if changed := git(root, "status", "--porcelain"):
        raise EditionError(f"commit or remove first what is not committed:\n{changed}")
    if git(root, "tag", "--list", term):
        when = git(root, "log", "-1", "--format=%cs", term)
        raise EditionError(
            f"the edition {term} was made on {when}, and others may hold it: take another name, "
            f"or, if it was never pushed, remove it with `git tag -d {term}`"
        )
    if UNRELEASED not in (root / "CHANGELOG.md").read_text(encoding="utf8"):
        raise EditionError("CHANGELOG.md has no line '## [Unreleased]' to date")


def pinned(config: str, term: str, url: str) -> str:
    """_config.yml with the edition, and with the address where it had none."""
    config, count = re.subn(r"(?m)^(  edition:) .*$", rf'\1 "{term}"', config)
    if count != 1:
        raise EditionError('_config.yml has no line `  edition: ""` below `repository:`')
    return re.sub(r'(?m)^(  url:) ""$', rf'\1 "{url}"', config) if url else config


def dated(changelog: str, term: str, day: datetime.date) -> str:
    """CHANGELOG.md with what was unreleased under the edition's name."""
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n## [{term}] - {day.isoformat()}\n", 1)


def write_notebooks(root: Path) -> None:
    """`make notebooks`."""
    if build(root)[0]:
        raise EditionError("the book was not built: see above")
    committed = root / "book" / "notebooks"
    shutil.rmtree(committed, ignore_errors=True)
    written = root / "_build" / "notebooks"
    shutil.copytree(written, committed, ignore=shutil.ignore_patterns(".made-from"))


def edition(
    term: str, root: Path = ROOT, *, notebooks: Callable[[Path], None] = write_notebooks
) -> str:
    """Make the commit and the tag of an edition; returns the commit.

    Raises
    ------
    EditionError
        If the term is no name, the clone no clean main, or the tag exists; also if the book does
        not build, and then the files are as they were.
    """
    refuse_unless_ready(root, term)
    where, changelog, config = address(root), root / "CHANGELOG.md", root / "_config.yml"
    text = pinned(config.read_text(encoding="utf8"), term, where.url if where else "")
    try:
        config.write_text(text, encoding="utf8")
        day = datetime.date.today()
        changelog.write_text(dated(changelog.read_text(encoding="utf8"), term, day), "utf8")
        notebooks(root)
        git(root, "add", "--", "_config.yml", "CHANGELOG.md", "book/notebooks")
        git(root, "commit", "-q", "-m", f"Edition {term}")
    except BaseException:
        git(root, "reset", "-q", "--hard")  # the tree was clean
        git(root, "clean", "-qfd", "--", "book/notebooks")
        raise
    git(root, "tag", "-a", term, "-m", f"Edition {term}")
    return git(root, "rev-parse", "HEAD")


def main() -> int:
    if len(sys.argv) != 2:
        print("Name the edition: make edition TERM=2027-spring")
        return 2
    term = sys.argv[1]
    try:
        commit = edition(term)
    except EditionError as problem:
        print(f"No edition was made: {problem}")
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Nothing was changed.")
        return 130
    print(f"Edition {term} is commit {commit[:7]}. Publish it: git push origin main {term}")
    if address() is None:
        print("This clone has no GitHub origin, so there are no links to Colab or to sources.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
