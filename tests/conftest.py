"""The whole suite in one run, the quick to tell first: style, units, the book, the site."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dynbook.publish.book import build

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))  # the Sphinx extensions are tested as modules

if sys.platform == "win32":  # submissions are graded under Unix
    collect_ignore = ["test_course.py", "test_assignments.py"]

STAGES = {
    "style": "test_style.py",
    "the book": "test_book.py",
    "chapters": "test_chapters.py",
    "plain notebooks": "test_notebooks.py",
    "the course": "test_assignments.py",
    "the site in a browser": "site/",
}
ORDER = ["style", "units", *[name for name in STAGES if name != "style"]]


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "grade every answer of tests/assignments, not one in six: a quarter of an hour"
    parser.addoption("--all-answers", action="store_true", help=text)


def stage(item: pytest.Item) -> str:
    """The stage that a test belongs to; what is in no other is a unit test."""
    path = item.path.relative_to(ROOT / "tests").as_posix()
    return next((name for name, start in STAGES.items() if path.startswith(start)), "units")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(stage(item)))  # stable: files keep their order


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """One visible line where a stage begins."""
    session = item.session
    if getattr(session, "dynbook_stage", None) != stage(item):
        session.dynbook_stage = stage(item)
        count = sum(stage(i) == stage(item) for i in session.items)
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_sep("-", f"{stage(item)}: {count} tests")


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ),
    ]
)
def device(request) -> str:
    """Every device that is here."""
    return request.param


@pytest.fixture(scope="session")
def install() -> Callable[[str], None]:
    """Installs a package of the system, if this is Debian and we may."""

    def install(package: str) -> None:
        if shutil.which("apt-get") and hasattr(os, "geteuid") and not os.geteuid():
            print(f"installing {package} with apt-get")
            subprocess.run(["apt-get", "update", "-qq"], check=False)
            get = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
            subprocess.run(get, check=False)

    return install


@pytest.fixture(scope="session")
def bubblewrap(install) -> None:
    """The sandbox in which submissions run."""
    if sys.platform != "linux":
        pytest.skip("bubblewrap is for Linux")
    if not shutil.which("bwrap"):
        install("bubblewrap")
    if not shutil.which("bwrap"):
        pytest.fail("the tests of grading need a sandbox: install `bubblewrap`", pytrace=False)
    from dynbook.course.sandbox import problem  # which Windows cannot import

    if why := problem():
        pytest.skip(why)


@pytest.fixture(scope="session")
def building(pytestconfig) -> tuple[int, str]:
    """The build of this run, its progress shown: exit status, and all it said."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        return build()


@pytest.fixture(scope="session")
def book(building) -> Path:
    """The built book, `_build`; tests of it are skipped when test_book.py has seen it fail."""
    if building[0]:
        pytest.skip("the book was not built (see test_book.py)")
    return ROOT / "_build"
