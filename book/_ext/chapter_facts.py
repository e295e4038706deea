"""`{chapter-facts}`, minutes to read and to run under a chapter's title; `{runtimes}`, all of them.

```{chapter-facts}
:gpu: 9 s on one NVIDIA H100
```

The seconds are those of the run that the page's outputs come from. They are HTML only: the plain
notebooks, which must not depend on the machine that wrote them, keep the reading time.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

WORDS_A_MINUTE = 180  # for prose with formulas; an equation counts as 8 words, a line of code as 4
FENCED = re.compile(
    r"^(?P<fence>```+|:::+)\{code-cell\}.*?^(?P=fence)\s*$", re.MULTILINE | re.DOTALL
)
DISPLAYED = re.compile(r"\$\$.*?\$\$|^```\{math\}.*?^```", re.MULTILINE | re.DOTALL)


def careful_minutes(text: str) -> float:
    """Minutes that MyST takes a careful reader."""
    text = re.sub(r"\A---.*?^---$", "", text, flags=re.MULTILINE | re.DOTALL)
    code = [m.group() for m in FENCED.finditer(text)]
    unseen = re.compile(r"\b(hide-input|remove-input|remove-cell)\b")
    lines = sum(len(cell.splitlines()) - 2 for cell in code if not unseen.search(cell))
    text = FENCED.sub(" ", text)
    equations = len(DISPLAYED.findall(text))
    words = len(DISPLAYED.sub(" ", text).split())
    return (words + 8 * equations + 4 * lines) / WORDS_A_MINUTE


def reading_minutes(text: str) -> int:
    """Minutes for a page, to the next five from ten on."""
    minutes = careful_minutes(text)
    return max(1, round(minutes)) if minutes < 10 else 5 * round(minutes / 5)


def seconds_in_words(seconds: float) -> str:
    """A duration for people: '8 s', '1 min 20 s'."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def machine_in_words(machine: dict) -> str:
    """Where a run took place, for a table of timings."""
    cores = f"{machine['cores']} CPU core{'s' * (machine['cores'] > 1)}"
    return f"{cores} ({machine['processor']}), Python {machine['python']}, torch {machine['torch']}"


class ChapterFacts(SphinxDirective):
    """One line under the title: minutes to read, seconds to run here, seconds on a GPU."""

    option_spec = {"gpu": directives.unchanged_required}  # noqa: RUF012  (docutils wants a dict)

    def run(self) -> list[nodes.Node]:
        text = Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf8")
        minutes = reading_minutes(text)
        line = nodes.paragraph("", f"{minutes} minute{'s' * (minutes > 1)} to read.")
        line["classes"].append("chapter-facts")
        run = self.env.app.dynbook_runs.get(self.env.docname)
        if run is None:
            raise self.error("chapter-facts belongs on a page with code cells")
        cores = run.machine["cores"]
        here = f" Runs in {seconds_in_words(run.seconds)} on {cores} CPU core{'s' * (cores > 1)}"
        on_gpu = f"; {self.options['gpu']}" if "gpu" in self.options else ""
        line += nodes.raw("", html.escape(here + on_gpu + "."), format="html")
        return [line]


class Runtimes(SphinxDirective):
    """The table of every page's run: how long, where, when."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for name, run in sorted(self.env.app.dynbook_runs.items()):
            where = machine_in_words(run.machine)
            memory = f"{run.memory / 1e9:.1f}" if run.memory else ""
            cost = f"{run.seconds:.1f} | {memory}"
            rows.append(f"| {{doc}}`/{name}` | {cost} | {where} | {run.when[:10]} |")
        head = ["| page | seconds | memory (GB) | machine | run on |", "|---|--:|--:|---|---|"]
        return self.parse_text_to_nodes("\n".join([*head, *rows]))


def setup(app):
    app.add_directive("chapter-facts", ChapterFacts)
    app.add_directive("runtimes", Runtimes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
