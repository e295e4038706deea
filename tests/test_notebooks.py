"""The plain notebooks: what the writer makes of every construct, and what is committed."""

import ast
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import plain_markdown as md
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbclient import NotebookClient

from dynbook import results
from dynbook.publish.colab import colab as pretend_colab
from dynbook.publish.colab import moved, opened_from
from dynbook.publish.execute import machine
from dynbook.publish.paper import chapters, experiments

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = ROOT / "book" / "notebooks"

# -- a small book with every construct ---------------------------------------------------------

CONF = """
project = "sample"
extensions = ["myst_nb", "sphinx_external_toc", "sphinx_proof", "sphinx_exercise", "sphinx_design",
              "sphinxcontrib.bibtex", "plain_notebooks"]
external_toc_path = "_toc.yml"
exclude_patterns = ["_build"]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_substitutions = {"who": "the reader"}
numfig = math_numfig = True
math_eqref_format = "({number})"
exercise_style = "solution_follow_exercise"
nb_execution_mode = "force"
nb_execution_raise_on_error = True
html_theme = "basic"
"""

TOC = """
format: jb-book
root: index
options: {numbered: true}
chapters: [{file: book/1-sample}, {file: book/terms}]
"""

BIB = """
@article{doe2020, author={Doe, Jane}, title={Things}, journal={J}, year={2020}, doi={10.1000/xyz}}
@misc{arx2021, author={Arx, Ann}, title={More}, year={2021}, eprint={2101.00001}}
@book{old1950, author={Old, Bob}, title={Book}, publisher={P}, year={1950}}
"""

TERMS = """
(terms)=
# Terms

:::{glossary}
Gram matrix
  Inner products.
:::

$$ e = mc^2 $$ (eq:far)

```{bibliography}
```
"""

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""

SAMPLE = r"""
(sample)=
# A *sample* with $x^2$

It costs 5 \$ or 6 \$, snake_case, 2 \* 3 \* 4, [0, 1], a<b, ~10, `a_b*c` for {{ who }}.
<!-- gone -->

1986\. Not a list.

% an author's comment

```{container} front-facts
Ran in 12.3 s.
```

$$ a_1 = b $$ (eq:one)

$$
a &= b \\
c &= d % why
$$

Equations {eq}`eq:one` and {eq}`eq:far`; {numref}`fig-one`, {numref}`fig-dot`, {numref}`tab-one`;
{numref}`sec-second`, {ref}`terms`; {prf:ref}`thm-main`, {ref}`ex-one`. A {term}`Gram matrix`. Cites
{cite:t}`doe2020` and {cite:p}`arx2021,old1950`. A note[^a]. See {download}`dot.svg` and <https://example.org/a_b>.

[^a]: The **note** with $y_1$.

:::{prf:theorem} Main $L^2$ bound
:label: thm-main
Then

$$
x =
1
$$ (eq:two)

- one
- two
:::

:::{prf:proof}
By {prf:ref}`def-thing`. $\square$
:::

:::{prf:definition}
:label: def-thing
A *thing*.
:::

:::{prf:proof}
:class: dropdown
A long one.

In two steps.
:::

(sec-second)=
## Second section

```{code-cell}
---
mystnb: {figure: {name: fig-one, caption: "A *caption* with $x_1$ after {eq}`eq:one`."}}
tags: [hide-input]
---
from IPython.display import HTML, display

display(HTML("<div>drawn</div>"))
```

```{code-cell}
:tags: [remove-cell]
from myst_nb import glue

glue("value", 1.23456, display=False)
```

```{code-cell}
:tags: [book-only]
print("only in the book")
```

It is {glue:text}`value:.3f`.

:::{figure} dot.svg
:name: fig-dot
:alt: A dot
A still *picture*.
:::

| left | right |
|---|--:|
| $\|x\|$ | a\|b |

:::{list-table} Rows
:name: tab-one
:header-rows: 1
* - h1
  - h2
* - one
  - two
:::

Term
: Its *meaning*.

:::{admonition} A title
:class: tip
Body.
:::

```{note}
Noted.
```

```{seealso}
There.
```

```{sidebar} Aside
By the way.
```

:::{admonition} Look
:class: dropdown
Folded.
:::

````{dropdown} Drop
```python
code = 1
```
````

::::{tab-set}
:::{tab-item} One
First tab.
:::
:::{tab-item} Two
Second tab.
:::
::::

::::{grid} 2
:::{grid-item-card} A card
:link: terms
:link-type: ref
Its text.
:::
::::

:::{exercise} Half a turn
:label: ex-one
Do it.
:::

:::{solution} ex-one
It is $1$.
:::

```{exercise-start}
:label: ex-two
```
Now with code:

```{code-cell}
y = 2
```

```{exercise-end}
```

```{solution-start} ex-two
```
So:

```{code-cell}
:tags: [hide-cell]
print(y)
```

Done.

```{solution-end}
```

- outer

  - inner

    its paragraph

  1. first
  2. second

     $$ z $$

> said

### Deeper

The end.

```{code-cell}
:tags: [remove-cell]
last = True
```
"""


def make_book(root: Path, sample: str) -> None:
    (root / "book").mkdir(parents=True)
    (root / "conf.py").write_text(CONF)
    (root / "_toc.yml").write_text(TOC)
    (root / "references.bib").write_text(BIB)
    (root / "index.md").write_text("# Home\n\nNo code here.\n")
    (root / "book" / "terms.md").write_text(TERMS)
    (root / "book" / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (root / "book" / "1-sample.md").write_text(HEADER + sample)


BUILD = """
import json, sys
from sphinx.application import Sphinx

extensions, overrides = json.loads(sys.argv[1])
sys.path.insert(0, extensions)
places = ".", ".", "_build/html", "_build/trees", "html"
with open("warnings.txt", "w") as said:
    Sphinx(*places, confoverrides=overrides, status=None, warning=said).build()
"""


def build(root: Path, **overrides: str) -> str:
    """Build the small book in a process of its own; warnings come back, or what stopped it."""
    order = json.dumps([str(ROOT / "book" / "_ext"), overrides])
    command = [sys.executable, "-c", BUILD, order]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.stderr if done.returncode else (root / "warnings.txt").read_text()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The small book, built by someone with no address."""
    root = tmp_path_factory.mktemp("sample")
    make_book(root, SAMPLE)
    assert build(root) == ""
    return root


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """The same book, built elsewhere in a clone whose origin is a GitHub fork."""
    root = tmp_path_factory.mktemp("fork")
    make_book(root, SAMPLE)
    github, site = "https://github.com/someone/fork", "https://someone.github.io/fork"
    found = {"book_repository_url": github, "book_repository_branch": "term/one"}
    assert build(root, book_site_url=site, **found) == ""
    return root


def committed_form(root: Path) -> Path:
    return root / "_build" / "notebooks" / "1-sample.ipynb"


def download_form(root: Path) -> Path:
    return root / "_build" / "html" / "book" / "notebooks" / "1-sample.ipynb"


def markdown(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(c.source for c in cells if c.cell_type == "markdown")


PLAIN = {
    "title": "# 1. A _sample_ with $x^2$\n\n*Made from `book/1-sample.md`: change that file",
    "text": r"It costs 5 \$ or 6 \$, snake_case, 2 \* 3 \* 4, [0, 1], a&lt;b, \~10, "
    "`a_b*c` for the reader.",
    "not a list": "\n\n1986\\. Not a list.\n\n",
    "equation": "$$\na_1 = b \\tag{1.1}\n$$",
    "rows": "$$\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n$$",
    "numbers": "Equations (1.1) and (2.1); Fig. 1.1, Fig. 1.2, Table 1.1; Section 1.1, Terms; "
    "Theorem 1.1, Exercise 1.1. A Gram matrix.",
    "citations": "Cites Doe [[2020](https://doi.org/10.1000/xyz)] and "
    "[[Arx, 2021](https://arxiv.org/abs/2101.00001), Old, 1950].",
    "footnote mark": "A note<sup>1</sup>.",
    "outside": "See `dot.svg` and [https://example.org/a_b](https://example.org/a_b).",
    "theorem": "> **Theorem 1.1 (Main $L^2$ bound)**\n>\n> Then\n>\n> $$ x = 1 \\tag{1.2} $$\n>\n"
    "> - one\n> - two\n",
    "proof": "> **Proof.**\n>\n> By Definition 1.1. $\\square$\n",
    "folded proof": "<details>\n<summary>Proof.</summary>\n\nA long one.\n\nIn two steps.\n\n"
    "</details>",
    "definition": "> **Definition 1.1**\n>\n> A *thing*.\n",
    "section": "\n## 1.1. Second section",
    "caption": "*Fig. 1.1. A _caption_ with $x_1$ after (1.1).*",
    "quoted value": "\nIt is 1.235.\n",
    "figure": "*(picture: A dot)*\n\n*Fig. 1.2. A still _picture_.*",
    "table": "| left | right |\n| --- | --: |\n| $\\vert x\\vert $ | a\\|b |\n",
    "list table": "*Table 1.1. Rows*\n\n| h1 | h2 |\n| --- | --- |\n| one | two |\n",
    "definition list": "- **Term**: Its *meaning*.",
    "admonition": "> **A title**\n>\n> Body.\n",
    "note": "> **Note**\n>\n> Noted.\n",
    "see also": "> **See also**\n>\n> There.\n",
    "sidebar": "> **Aside**\n>\n> By the way.\n",
    "folded admonition": "<details>\n<summary>Look</summary>\n\nFolded.\n\n</details>",
    "dropdown": "<details>\n<summary>Drop</summary>\n\n```python\ncode = 1\n```\n\n</details>",
    "tabs": "**One**\n\nFirst tab.\n\n**Two**\n\nSecond tab.",
    "card": "> **A card**\n>\n> Its text.\n",
    "exercise": "> **Exercise 1.1 (Half a turn)**\n>\n> Do it.\n",
    "solution": "<details>\n<summary>Solution to Exercise 1.1</summary>\n\nIt is $1$.\n\n"
    "</details>",
    "exercise with cells": "**Exercise 1.2**\n\nNow with code:\n",
    "solution with cells": "**Solution to Exercise 1.2**\n\nSo:\n",
    "nested lists": "- outer\n\n  - inner\n\n    its paragraph\n\n  1. first\n  2. second\n\n"
    "     $$ z $$\n",
    "quote": "\n> said\n",
    "deeper": "### 1.1.1. Deeper",
    "footnote": "---\n\n<sup>1</sup> The **note** with $y_1$.",
}


@pytest.mark.parametrize("construct", PLAIN)
def test_each_construct_has_its_plain_form(sample, construct):
    assert PLAIN[construct] in markdown(committed_form(sample)) + "\n"


def test_what_belongs_to_the_site_alone_is_left_out(sample):
    text = committed_form(sample).read_text()
    for word in ("12.3 s", "only in the book", "gone", "an author's comment", "drawn</div>\\n"):
        assert word not in text


def test_cells_keep_their_code_order_and_tags(sample):
    cells = [c for c in nbformat.read(committed_form(sample), 4).cells if c.cell_type == "code"][1:]
    first_words = [c.source.split()[:2] for c in cells]
    assert first_words == [
        ["from", "IPython.display"],
        ["from", "myst_nb"],
        ["y", "="],
        ["print(y)"],
        ["last", "="],
    ]
    assert [dict(c.metadata) for c in cells] == [
        {"tags": ["hide-input"], "jupyter": {"source_hidden": True}},
        {"tags": ["remove-cell"], "jupyter": {"source_hidden": True}},
        {},
        {"tags": ["hide-cell"], "jupyter": {"source_hidden": True}},
        {"tags": ["remove-cell"], "jupyter": {"source_hidden": True}},
    ]
    assert all(c.outputs == [] and c.execution_count is None for c in cells)


def test_a_removed_cell_stays_where_it_stood(sample):
    sources = [c.source for c in nbformat.read(committed_form(sample), 4).cells]
    glue = next(i for i, s in enumerate(sources) if s.startswith("from myst_nb"))
    assert sources[glue - 1].startswith("*Fig. 1.1.") and sources[glue + 1].startswith(
        "It is 1.235"
    )


def test_the_committed_form_does_not_depend_on_who_builds(sample, fork):
    assert committed_form(sample).read_bytes() == committed_form(fork).read_bytes()
    assert "someone" not in committed_form(fork).read_text()
    assert committed_form(sample).read_text().endswith("}\n")


def test_the_download_form_links_to_the_site_it_comes_from(fork):
    text = markdown(download_form(fork))
    site = "https://someone.github.io/fork"
    for piece in (
        f"[(1.1)]({site}/book/1-sample.html#equation-eq-one)",
        f"[(2.1)]({site}/book/terms.html#equation-eq-far)",
        f"[Theorem 1.1]({site}/book/1-sample.html#thm-main)",
        f"[Gram matrix]({site}/book/terms.html#term-Gram-matrix)",
        f"[Old, 1950]({site}/book/terms.html#id",
        f"![A dot]({site}/_images/dot.svg)",
        f"[`dot.svg`]({site}/_downloads/",
    ):
        assert piece in text


def test_with_a_repository_alone_links_go_to_its_sources(tmp_path):
    make_book(
        tmp_path,
        "\n# T\n\nTo {ref}`here <there>`, {ref}`terms`.\n\n(there)=\n## There\n\n![alt](dot.svg)\n",
    )
    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/a/b, branch: v1}")
    assert build(tmp_path) == ""
    text = markdown(committed_form(tmp_path))
    assert "To here, [Terms](https://github.com/a/b/blob/v1/book/terms.md)." in text
    assert "![alt](https://github.com/a/b/raw/v1/book/dot.svg)" in text


def test_notebooks_are_written_again_when_something_changed_and_only_then(tmp_path):
    make_book(tmp_path, "\n# T\n\nTo {ref}`terms`.\n")
    files = committed_form(tmp_path), download_form(tmp_path)

    def written() -> bool:
        before = [f.stat().st_mtime_ns if f.exists() else 0 for f in files]
        assert build(tmp_path) == ""
        return all(f.stat().st_mtime_ns > t for f, t in zip(files, before, strict=True))

    assert written() and not written()
    terms = tmp_path / "book" / "terms.md"
    terms.write_text(terms.read_text().replace("# Terms", "# Words"))
    assert written() and "To Words." in markdown(files[0])
    files[1].unlink()
    assert written() and not written()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("<video src='x'></video>", "1-sample.md:8: no plain form for <raw> with <video"),
        ("```{list-table}\n* - a\n  - - b\n```", "<entry> with more than paragraphs in a cell"),
    ],
)
def test_what_has_no_plain_form_stops_the_build_and_names_its_place(tmp_path, source, complaint):
    make_book(tmp_path, f"\n# T\n\n{source}\n")
    assert complaint in build(tmp_path)


# -- Markdown, against another reader of it ----------------------------------------------------


@given(st.text("ab 1.):#*_`$~<>&;[](){}!\\|-+=^/", min_size=1).map(str.strip).filter(bool))
def test_escaped_text_reads_as_itself(text):
    text = " ".join(text.split())
    [paragraph] = (
        MarkdownIt("commonmark")
        .enable("strikethrough")
        .parse(md.escape_start(md.escape(text)))[1:-1]
    )
    assert "".join(t.content for t in paragraph.children) == text
    assert {t.type for t in paragraph.children} <= {"text", "text_special"}


@pytest.mark.parametrize(
    ("tex", "plain"),
    [
        (r"a &= b \\ c &= d", r"$$ \begin{aligned} a &= b \\ c &= d \end{aligned} $$"),
        (r"\begin{align*} a &= b \end{align*}", r"$$ \begin{aligned} a &= b \end{aligned} $$"),
        (r"A = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", None),
        ("50\\% of x % a remark\n\n= y", r"$$ 50\% of x = y $$"),
        (r"\begin{equation} x \label{a} \end{equation}", "$$ x $$"),
    ],
)
def test_displayed_formulas_are_what_mathjax_and_katex_both_read(tex, plain):
    assert md.display(tex, one_line=True) == (plain or f"$$ {tex} $$")


# -- the Colab cell ----------------------------------------------------------------------------


@pytest.fixture
def colab(tmp_path):
    """Run a notebook's first code cell as on Colab, with GitHub a folder and no network."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for owner in ("someone", "other"):
        home = tmp_path / "github" / owner / "fork"
        (home / "dynbook").mkdir(parents=True)
        (home / "dynbook" / "__init__.py").write_text(f"HOME = {owner!r}\n")
        for command in (
            ["init", "-q", "-b", "term/one"],
            ["add", "."],
            ["commit", "-q", "-m", "x"],
        ):
            subprocess.run([*git, *command], cwd=home, check=True)

    def run(notebook: Path, opened: str | None, on_colab: bool = True):
        cells = nbformat.read(notebook, 4).cells
        cell = moved(next(c.source for c in cells if c.cell_type == "code"), tmp_path / "content")
        after = "\nimport dynbook; print(getattr(dynbook, 'HOME', 'installed'))"
        with pretend_colab(tmp_path / "colab", tmp_path / "github", opened or "") as pretence:
            env = os.environ | pretence
            if not on_colab:
                env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
            if opened is None:
                del env["COLAB_JUPYTER_IP"]
            done = subprocess.run(
                [sys.executable, "-c", cell + after],
                env=env,
                capture_output=True,
                text=True,
                timeout=60,
            )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def opened(owner: str) -> str:
    return opened_from(f"{owner}/fork", "term/one", "book/notebooks/1-sample.ipynb")


def test_on_colab_the_code_comes_from_where_the_notebook_was_opened(sample, fork, colab):
    assert colab(committed_form(sample), opened("someone")) == "someone\n"
    assert colab(committed_form(sample), opened("someone")) == "someone\n"  # and again


def test_on_colab_the_place_of_opening_precedes_the_written_address(fork, colab):
    assert colab(download_form(fork), opened("other")) == "other\n"


@pytest.mark.parametrize("says", [None, "fileId=1a2b3c"])
def test_on_colab_a_copy_in_a_drive_uses_the_written_address(fork, colab, says):
    assert colab(download_form(fork), says) == "someone\n"


def test_on_colab_without_any_address_one_line_says_what_to_do(sample, colab):
    said = colab(committed_form(sample), None).splitlines()
    assert len(said) == 2 and "clone" in said[0] and said[1] == "installed"


def test_off_colab_the_first_cell_does_nothing(fork, colab):
    assert colab(download_form(fork), opened("someone"), on_colab=False) == "installed\n"


def test_away_from_the_book_the_first_cell_says_what_to_install(sample):
    cells = nbformat.read(committed_form(sample), 4).cells
    first = next(c.source for c in cells if c.cell_type == "code")
    for bare, says in ((["-I", "-S"], "pip install -e '.[notebooks]'"), ([], "")):
        ran = subprocess.run([sys.executable, *bare, "-c", first], capture_output=True, text=True)
        assert says in ran.stderr and bool(ran.returncode) == bool(says)


# -- the committed notebooks -------------------------------------------------------------------

NOTEBOOKS = sorted(COMMITTED.glob("*.ipynb"))
ASSIGNMENTS = sorted(COMMITTED.glob("assignments/*.ipynb"))  # which stop where an answer is missing


def texts(folder: Path) -> dict[str, str]:
    """Text of every notebook below a folder, by its path from there."""
    found = sorted(folder.rglob("*.ipynb"))
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf8") for p in found}


LEFTOVER = re.compile(
    r"\{[a-z][\w:+-]*\}`|```+\s*\{|^\s*(?:> ?)*:::|^\s*\([\w:.-]+\)=\s*$|\{\{|\}\}|<!--|^% |"
    r"\]\((?!https?://|mailto:)|\[\]\(",
    re.MULTILINE,
)


def leftovers(path: Path) -> list[str]:
    """Traces of MyST, and links that lead nowhere, in the prose of a notebook."""
    prose = re.sub(r"(?ms)^((?:> ?| )*)(```+)\w*$.*?^\1\2$|\$\$.*?\$\$", "", markdown(path))
    prose = re.sub(r"(`+) ?[^`].*?[^`]? ?\1(?!`)|(?<!\\)\$[^$]+\$", "`x`", prose)
    return [prose[max(0, m.start() - 30) : m.end() + 30] for m in LEFTOVER.finditer(prose)]


def test_the_sample_has_no_leftover(sample, fork):
    for path in (committed_form(sample), download_form(fork)):
        assert leftovers(path) == []


@pytest.mark.parametrize(
    "trace",
    ["{eq}`a`", "```{note}\nx\n```", ":::", "(label)=", "{{ x }}", "<!-- x -->", "[a](b.html)"],
)
def test_leftovers_are_seen(tmp_path, trace):
    cell = nbformat.v4.new_markdown_cell(f"Some `code` and $m$.\n\n{trace}")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    assert leftovers(tmp_path / "a.ipynb")


NUMBER = re.compile(r"\d+(?:\.\d+)?|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")


def measured(page: str, book: Path) -> set[str]:
    """Numbers that the page quotes from its own cells, as they stand in the text."""
    glued = book / "jupyter_execute" / f"{page}.glue.json"
    if not glued.exists():
        return set()
    values = {
        name: ast.literal_eval(*value["data"].values())
        for name, value in json.loads(glued.read_text(encoding="utf8")).items()
    }
    text = (ROOT / f"{page}.md").read_text(encoding="utf8")
    quoted = re.findall(r"\{glue:text\}`(\w+)(?::([^`]*))?`", text)
    return {n for name, form in quoted for n in NUMBER.findall(format(values[name], form or ""))}


def same_text(old: str, new: str, measured: set[str]) -> bool:
    """Whether two lines are equal but for measured numbers, whose last digit may be another
    processor's; tests/quoted says within which bands they are right."""
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=False)
    return NUMBER.split(old) == NUMBER.split(new) and all(a == b or b in measured for a, b in pairs)


def test_only_a_measured_number_may_differ():
    assert same_text("at 0.31 of Fig. 2", "at 0.32 of Fig. 2", {"0.32"})
    assert not same_text("at 0.31 of Fig. 2", "at 0.31 of Fig. 3", {"0.31"})
    assert not same_text("at 0.31 of Fig. 2", "at 0.31 of a figure", {"0.31"})


def test_the_committed_notebooks_are_what_the_text_makes(book):
    built, committed = texts(book / "notebooks"), texts(COMMITTED)
    assert built, f"{book / 'notebooks'} is empty: run make book first"
    difference = []
    for name in sorted(built.keys() | committed.keys()):
        old, new = committed.get(name, "").splitlines(), built.get(name, "").splitlines()
        numbers = measured(f"book/{name.removesuffix('.ipynb')}", book)
        if len(old) == len(new):
            old = [b if same_text(a, b, numbers) else a for a, b in zip(old, new, strict=True)]
        names = f"committed/{name}", f"built/{name}"
        difference += difflib.unified_diff(old, new, *names, n=1, lineterm="")
    assert not difference, "run make notebooks, and commit:\n" + "\n".join(difference[:60])


@pytest.mark.parametrize("path", NOTEBOOKS + ASSIGNMENTS, ids=lambda p: p.stem)
def test_a_committed_notebook_is_plain_and_sound(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert leftovers(path) == []
    assert len({c.id for c in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


# -- every notebook runs -----------------------------------------------------------------------

BARE = """
import sys
class NoBook:
    "The kernel of a reader who has the package's dependencies and nothing that builds books."
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"sphinx", "myst_nb", "myst_parser", "jupyter_book", "docutils"}:
            raise ModuleNotFoundError(f"{name} builds the book; a notebook must not need it")
sys.meta_path.insert(0, NoBook())
"""


@pytest.fixture(scope="module")
def bare_kernel(tmp_path_factory):
    """Environment of a kernel in which nothing that builds the book can be imported."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(BARE)
    env = {k: v for k, v in os.environ.items() if k != "DYNBOOK_BUILD"}
    env |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}  # a core each, they run together
    env |= {"DYNBOOK_SCALE": "trial"}  # what only the papers' sizes run, too
    tried = subprocess.run(
        [sys.executable, "-c", "import sphinx"], env=env, capture_output=True, text=True
    )
    assert "a notebook must not need it" in tried.stderr
    return env


@pytest.fixture(scope="module")
def runs(bare_kernel, tmp_path_factory):
    """Every committed notebook, run on its own in a folder of its own; as many at once as cores."""
    shutil.rmtree(results.TRIAL, ignore_errors=True)

    def run(path: Path):
        notebook = nbformat.read(path, as_version=4)
        place = {"metadata": {"path": str(tmp_path_factory.mktemp(path.stem))}}
        client = NotebookClient(notebook, kernel_name="python3", timeout=300, resources=place)
        client.execute(env=bare_kernel)  # an error in a cell is raised with its traceback
        return notebook

    with ThreadPoolExecutor(int(machine()["cores"])) as pool:
        yield {path: pool.submit(run, path) for path in sorted(NOTEBOOKS, key=size, reverse=True)}


def size(path: Path) -> int:
    return path.stat().st_size


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_committed_notebook_runs_in_a_bare_kernel(path, runs):
    said = [
        out.text
        for cell in runs[path].result().cells
        for out in cell.get("outputs", ())
        if out.output_type == "stream" and out.name == "stderr"
    ]
    assert not said


def names(value):
    """The names in a record, and in what it holds."""
    if isinstance(value, dict):
        return {name: names(one) for name, one in value.items()}
    return names(value[0]) if isinstance(value, list) and value else None


RECORDING = [COMMITTED / f"{text.stem}.ipynb" for text in chapters(ROOT).values()]


@pytest.mark.parametrize("path", RECORDING, ids=lambda p: p.stem)
def test_a_trial_records_what_the_papers_sizes_do(path, runs):
    cells = "\n".join(cell.source for cell in runs[path].result().cells)
    asked = experiments(cells)
    assert asked, "run make notebooks, and commit"
    for name in asked:
        tried, shipped = (
            json.loads((folder / f"{name}.json").read_text("utf8"))
            for folder in (results.TRIAL, results.FOLDER)
        )
        assert names(tried) == names(shipped), name
