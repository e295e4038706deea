"""The bundle, unpacked in an awkward folder, read from file:// in a real browser, and used."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dynbook.publish.bundle import LEFT_OUT, ROOT, bundle
from dynbook.publish.pages import broken_links, toc_pages

CHAPTER = "book/3-relu-gram"


@pytest.fixture(scope="module")
def made(book) -> Path:
    return bundle()


@pytest.fixture(scope="module")
def unpacked(made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("a place") / "naïve #1 & co"
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder)
    return folder / "dynbook"


@pytest.fixture
def offline(unpacked, viewer_of_files):
    return viewer_of_files(unpacked / "site")


def test_it_is_light_and_the_same_for_the_same_commit(made):
    first = made.read_bytes()
    assert len(first) < 25e6
    assert bundle().read_bytes() == first


def test_it_holds_the_site_the_notebooks_the_data_and_a_way_in(unpacked):
    for folder, source in (("notebooks", "book/notebooks"), ("data", "book/data")):
        names = {p.relative_to(ROOT / source) for p in (ROOT / source).rglob("*") if p.is_file()}
        assert names == {
            p.relative_to(unpacked / folder) for p in (unpacked / folder).rglob("*") if p.is_file()
        }
    words = (unpacked / "README.txt").read_text(encoding="utf8")
    assert "site/index.html" in words and next(unpacked.glob("*.whl")).name in words
    assert all((unpacked / "site" / f"{page}.html").exists() for page in toc_pages())


def test_no_link_leads_out_of_the_folder_or_to_what_was_left_out(book, unpacked):
    away = {
        p.relative_to(book / "html").as_posix()
        for p in (book / "html").rglob("*")
        if p.is_file() and LEFT_OUT.match(p.relative_to(book / "html").as_posix())
    }
    for page in toc_pages():
        text = (unpacked / "site" / f"{page}.html").read_text(encoding="utf8")
        assert not [name for name in away if f'{name}"' in text], page
        assert 'href="/' not in text and 'src="/' not in text, page
    for page in ("index", CHAPTER, "book/reference/api/gram", "book/reference/glossary"):
        assert not broken_links(unpacked / "site", page)


def test_formulas_sliders_and_folds_work_from_files(offline):
    tab = offline.open(CHAPTER)
    assert tab.locator("article mjx-container").count() > 50
    assert tab.locator("mjx-merror").count() == 0
    fonts = "() => [...document.fonts].filter(f => f.family.startsWith('MJX'))"
    assert "loaded" in tab.evaluate(f"{fonts}.map(f => f.status)")
    assert "error" not in tab.evaluate(f"{fonts}.map(f => f.status)")
    figure = tab.locator(".explore").first
    before = figure.locator(".explore-stage").inner_html()
    figure.locator("input[type=range]").first.focus()
    tab.keyboard.press("ArrowRight")
    assert figure.locator(".explore-stage").inner_html() != before
    fold = tab.locator("article details").first
    fold.locator("summary").click()
    assert fold.get_attribute("open") is not None
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function("() => document.documentElement.dataset.theme == 'dark'")
    assert offline.complaints == []


def test_the_search_finds_from_files(offline):
    tab = offline.open("search")
    tab.goto(f"{offline.address}/search.html?q=lyapunov_spectrum")
    tab.locator("#search-results li a").first.wait_for(timeout=20_000)
    tab.wait_for_timeout(500)
    found = tab.locator("#search-results li a").all_inner_texts()
    assert any("lyapunov_spectrum" in title for title in found[:3])
    href = tab.locator("#search-results li a").first.evaluate("a => a.href")
    assert href.startswith("file://") and ".html" in href
    assert offline.complaints == []


def test_a_notebook_of_it_finds_the_package_in_the_wheel(unpacked, tmp_path):
    with zipfile.ZipFile(next(unpacked.glob("*.whl"))) as wheel:  # what an installer does
        wheel.extractall(tmp_path / "here")
    notebook = json.loads((unpacked / "notebooks" / "3-relu-gram.ipynb").read_text("utf8"))
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    asks = f"import sys; sys.path.insert(0, {str(tmp_path / 'here')!r})\n"
    tells = "\nimport dynbook.player; print(dynbook.__path__[0])"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", asks + code[0] + "\n" + code[1] + tells],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().startswith(str(tmp_path / "here"))


def test_without_a_site_it_says_what_comes_first(tmp_path):
    with pytest.raises(FileNotFoundError, match="`make book` comes first"):
        bundle(tmp_path)


def test_nothing_private_is_in_it(unpacked):
    names = [p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*")]
    assert not [n for n in names if "private" in n or "solution" in n or ".doctrees" in n]
