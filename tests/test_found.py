"""What others read of the site: descriptions, cards, sitemap; plain words out of a tree."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from docutils import nodes
from page_metadata import LONGEST, SHORTEST, description, element, tags, write_files
from PIL import Image
from plain_text import plain_formula, plain_text

from dynbook.publish.pages import soup, toc_pages

SITE = "https://some-one.github.io/notes"
PAGES = toc_pages()


def meta(page) -> dict[str, str]:
    found = soup(page).find_all("meta", content=True)
    return {m.get("name") or m.get("property"): m["content"] for m in found}


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tex", "words"),
    [
        ("x", "x"),
        (r"\lambda_1", "λ₁"),
        (r"N \to \infty", "N → ∞"),
        (r"\sigma^2 = 1/N", "σ² = 1/N"),
        (r"\mathrm{e}^{-2}", "e⁻²"),
        (r"\frac{1}{2}", "…"),
        (r"x^{(\ell)}", "…"),
    ],
)
def test_a_short_formula_is_said_in_characters_and_a_long_one_left_out(tex, words):
    assert plain_formula(tex).replace(" ", "") == words.replace(" ", "")


def test_code_displayed_formulas_and_html_are_not_said():
    tree = nodes.container()
    tree += nodes.paragraph("", "", nodes.Text("One "), nodes.math("", "x"), nodes.Text("."))
    tree += nodes.math_block("", r"\int")
    tree += nodes.literal_block("", "print()")
    tree += nodes.raw("", "<b>", format="html")
    tree += nodes.paragraph("", "Two.")
    assert plain_text(tree) == "One x. Two."


def page_of(*paragraphs: str) -> nodes.document:
    tree = nodes.section()
    tree.extend(nodes.paragraph("", text) for text in paragraphs)
    return tree


def test_a_description_is_made_of_whole_sentences_when_they_fit():
    first = "Send a circle of inputs through a hundred random layers."
    assert description("T", page_of(first, "Not this one."), "B") == first
    assert description("T", page_of("Short.", first), "B") == f"Short. {first}"
    long = "word " * 60 + "end."
    cut = description("T", page_of(long), "B")
    assert SHORTEST <= len(cut) <= LONGEST and cut.endswith("word…")
    bare = description("T", page_of("A formula follows, and", "Short."), "Book of many names")
    assert bare == "T, a page of the book Book of many names. Short."
    cited = "Zhang et al. [2025] say e.g. what A. Lyapunov said before them, and more."
    assert description("T", page_of(f"{cited} {long}."), "B") == cited


# -- tags -----------------------------------------------------------------------------------------


def test_addresses_are_absolute_or_absent():
    known, unknown = (tags("T", "Words.", "B", site, "book/1.html") for site in (SITE, ""))
    assert known["og:url"] == f"{SITE}/book/1.html"
    assert known["og:image"] == f"{SITE}/_static/social-card.png"
    assert known["twitter:card"] == "summary_large_image"
    assert not {"og:url", "og:image"} & set(unknown) and unknown["twitter:card"] == "summary"


def test_a_tag_is_quoted():
    assert element("og:title", 'a "b" & <c>') == (
        '<meta property="og:title" content="a &quot;b&quot; &amp; &lt;c&gt;" />'
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_head_of(page, book):
    file = book / "html" / f"{page}.html"
    head, said = soup(file).head, meta(file)
    words = said["description"]
    assert SHORTEST <= len(words) <= LONGEST and not re.search(r"[\\$]|_\{|…[^$]", words), words
    assert said["og:description"] == words and said["og:type"] and said["twitter:card"]
    assert said["og:title"] in head.title.get_text()
    assert len(head.find_all("meta", attrs={"name": "viewport"})) == 1
    assert not head.find_all("script", src=re.compile("searchindex|searchtools"))
    assert soup(file).html["lang"] == "en"
    canonical = head.find("link", rel="canonical")
    assert (canonical is not None) == ("og:url" in said)
    if canonical:
        assert canonical["href"] == said["og:url"]


def test_titles_and_descriptions_tell_pages_apart(book):
    heads = [book / "html" / f"{page}.html" for page in PAGES]
    for words in (
        [meta(f)["description"] for f in heads],
        [soup(f).title.get_text() for f in heads],
    ):
        assert sorted({w for w in words if words.count(w) > 1}) == []


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture
def built(tmp_path):
    """A build that ended, for a site with or without an address."""

    def built(site: str) -> SimpleNamespace:
        builder = SimpleNamespace(name="html", get_target_uri=lambda page: f"{page}.html")
        builder.templates = SimpleNamespace(render=lambda name, context: str(context["root"]))
        config = SimpleNamespace(book_site_url=site, html_title="Title", root_doc="index")
        titles = {"book/1-a": nodes.title("", "A")}
        env = SimpleNamespace(found_docs={"index", "book/1-a"}, titles=titles)
        return SimpleNamespace(outdir=str(tmp_path), builder=builder, config=config, env=env)

    return built


def test_the_sitemap_has_every_page_and_robots_name_it(built, tmp_path):
    write_files(built(SITE), None)
    places = re.findall("<loc>(.*?)</loc>", (tmp_path / "sitemap.xml").read_text())
    assert places == [f"{SITE}/", f"{SITE}/book/1-a.html"]
    assert f"Sitemap: {SITE}/sitemap.xml" in (tmp_path / "robots.txt").read_text()
    assert (tmp_path / "404.html").read_text() == "/notes/"


def test_without_an_address_there_is_no_sitemap_and_nothing_names_one(built, tmp_path):
    (tmp_path / "sitemap.xml").write_text("of an earlier build")
    write_files(built(""), None)
    assert not (tmp_path / "sitemap.xml").exists()
    assert (tmp_path / "robots.txt").read_text() == "User-agent: *\nAllow: /\n"
    assert (tmp_path / "404.html").read_text() == "/"


def test_the_card_is_a_small_picture_of_the_usual_size(built, tmp_path):
    write_files(built(""), None)
    card = tmp_path / "_static" / "social-card.png"
    assert Image.open(card).size == (1200, 630) and card.stat().st_size < 300_000
    assert len(Image.open(card).convert("RGB").getcolors(1 << 20)) > 8
