"""Editions: made on a clean main, once; refused in words, and then nothing is changed."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
import yaml

from dynbook.publish.address import address
from dynbook.publish.edition import EditionError, edition, git

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "book/notebooks/1.ipynb"


def write_notebook(root: Path) -> None:
    """Stands for the build: a notebook that knows where it belongs."""
    where = address(root)
    (root / NOTEBOOK).write_text(where.colab(NOTEBOOK), encoding="utf8")


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A clone of a small book with the real settings and the real changelog."""
    for key, value in {"NAME": "A", "EMAIL": "a@example.org"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{key}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{key}", value)
    origin, root = tmp_path / "origin", tmp_path / "clone"
    (origin / "book" / "notebooks").mkdir(parents=True)
    for name in ("_config.yml", "CHANGELOG.md"):
        (origin / name).write_text((ROOT / name).read_text(encoding="utf8"), encoding="utf8")
    (origin / NOTEBOOK).write_text("main", encoding="utf8")
    subprocess.run(["git", "init", "-q", "-b", "main", origin], check=True)
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "The book")
    subprocess.run(["git", "clone", "-q", origin, root], check=True)
    git(root, "remote", "set-url", "origin", "https://github.com/some-one/notes")
    return root


def make(root: Path, term: str = "2027-spring") -> str:
    return edition(term, root, notebooks=write_notebook)


def refused(root: Path, words: str, term: str = "2027-spring") -> None:
    before = git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain")
    with pytest.raises(EditionError, match=words):
        make(root, term)
    assert (git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain")) == before


def test_an_edition_is_a_dated_commit_with_an_annotated_tag(clone):
    commit = make(clone)
    assert git(clone, "cat-file", "-t", "2027-spring") == "tag"
    assert git(clone, "rev-parse", "2027-spring^{commit}", "main").split() == [commit, commit]
    assert git(clone, "status", "--porcelain") == ""
    changelog = (clone / "CHANGELOG.md").read_text(encoding="utf8")
    today = datetime.date.today().isoformat()
    assert f"## [Unreleased]\n\n## [2027-spring] - {today}\n" in changelog


def test_links_of_readers_are_pinned_and_those_of_writers_are_not(clone):
    make(clone)
    where = address(clone)
    assert where.file("x.md") == "https://github.com/some-one/notes/blob/2027-spring/x.md"
    assert "/some-one/notes/blob/2027-spring/" in where.colab("x.ipynb")
    assert where.edit("x.md") == "https://github.com/some-one/notes/edit/main/x.md"
    settings = yaml.safe_load((clone / "_config.yml").read_text(encoding="utf8"))
    assert settings["repository"]["url"] == "https://github.com/some-one/notes"


def test_last_years_links_keep_last_years_material(clone):
    make(clone)
    old = git(clone, "show", f"2027-spring:{NOTEBOOK}")
    (clone / "new.md").write_text("next year")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "Write on")
    make(clone, "2028-spring")
    assert git(clone, "show", f"2027-spring:{NOTEBOOK}") == old and "2027-spring" in old
    assert "2028-spring" in git(clone, "show", f"2028-spring:{NOTEBOOK}")
    assert git(clone, "ls-tree", "--name-only", "2027-spring", "new.md") == ""
    text = (clone / "CHANGELOG.md").read_text(encoding="utf8")
    assert text.index("[Unreleased]") < text.index("[2028-spring]") < text.index("[2027-spring]")


@pytest.mark.parametrize("term", ["", "spring", "2027 spring", "2027-Spring", "../x", "2027-"])
def test_a_bad_name_is_refused(term, clone):
    refused(clone, "like 2027-spring; got", term)


def test_uncommitted_work_is_refused(clone):
    (clone / "draft.md").write_text("…")
    refused(clone, r"(?s)commit or remove first .*draft\.md")


def test_another_branch_is_refused(clone):
    git(clone, "switch", "-q", "-c", "idea")
    refused(clone, "made on main; this is idea")


def test_an_edition_is_made_once(clone):
    make(clone)
    refused(clone, "the edition 2027-spring was made on .* take another name")


def test_a_build_that_fails_leaves_everything_as_it_was(clone):
    def fails(root: Path) -> None:
        (root / NOTEBOOK).unlink()
        (root / "book" / "notebooks" / "half.ipynb").write_text("")
        raise EditionError("the book was not built: see above")

    before = git(clone, "rev-parse", "HEAD")
    with pytest.raises(EditionError, match="not built"):
        edition("2027-spring", clone, notebooks=fails)
    assert git(clone, "status", "--porcelain") == "" and git(clone, "tag") == ""
    assert git(clone, "rev-parse", "HEAD") == before
