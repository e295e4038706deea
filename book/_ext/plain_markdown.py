"""Strings of plain Markdown that JupyterLab and Colab show alike."""

from __future__ import annotations

import re
from urllib.parse import quote as percent

LANGUAGES = {"ipython3": "python", "ipython": "python", "default": "", "none": ""}
ENVIRONMENT = re.compile(r"\\begin\{([\w*]+)\}((?!\\begin).)*?\\end\{\1\}", re.DOTALL)


def escape(text: str) -> str:
    """Text that Markdown shows as it is written, with no mark, tag or formula read into it."""
    text = " ".join(text.split("\n"))
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    text = text.replace("\\", "&#92;").replace("](", "]&#40;").replace("[^", "&#91;^")
    text = re.sub(r"([*`$~])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # but snake_case stays


def escape_start(block: str) -> str:
    """A paragraph whose first characters do not make it a list, a heading or a quote."""
    block = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", block)
    block = re.sub(r"^(\[[^]]*\]):", r"\1&#58;", block)
    return re.sub(r"^(>|[-+#](?=\s|$|[-#]))", r"\\\1", block)


def code_span(text: str) -> str:
    """Inline code; more backticks around it than inside."""
    ticks = "`" * (longest_run(text) + 1)
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"


def fence(text: str, language: str) -> str:
    """A block of code, not a cell."""
    ticks = "`" * max(3, longest_run(text) + 1)
    return f"{ticks}{LANGUAGES.get(language, language)}\n{text.rstrip()}\n{ticks}"


def longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def marked(mark: str, text: str) -> str:
    """Text between two marks, which Markdown wants tight: `**a**`, never `** a **`."""
    core = text.strip()
    return text.replace(core, f"{mark}{core}{mark}", 1) if core else text


def link(text: str, url: str) -> str:
    """A link, or the bare text when there is no address."""
    return f"[{text}]({percent(url, safe='/:?#@!$&*+,;=~%')})" if url else text


def display(tex: str, number: str = "", *, one_line: bool = False) -> str:
    r"""A displayed formula, `$$ … \tag{number} $$`.

    Rows without an environment are set in `aligned`, as the site sets them. Jupyter takes formulas
    out before it reads Markdown, so that the `>` of a quote would become part of them: in quotes
    and lists the formula must stand on one line.
    """
    tex = re.sub(r"(?<!\\)%.*|\\label\{[^}]*\}|\\(begin|end)\{equation\*?\}", "", tex)
    tex = "\n".join(line.strip() for line in tex.split("\n") if line.strip())
    tex = re.sub(r"(\\(?:begin|end)\{)(?:align|eqnarray)\*?\}", r"\1aligned}", tex)
    tex = re.sub(r"(\\(?:begin|end)\{)(?:gather|multline)\*?\}", r"\1gathered}", tex)
    outside, found = tex, 1
    while found:
        outside, found = ENVIRONMENT.subn("", outside)
    if re.search(r"\\\\|(?<!\\)&", outside):
        tex = f"\\begin{{aligned}}\n{tex}\n\\end{{aligned}}"
    if number:
        tex += rf" \tag{{{number}}}"
    return f"$$ {' '.join(tex.split())} $$" if one_line else f"$$\n{tex}\n$$"


def bars_spelled(tex: str) -> str:
    """A formula for a table, whose columns a bar would end."""
    return tex.replace(r"\|", r"\Vert ").replace("|", r"\vert ")


def quoted(text: str) -> str:
    """A block quote."""
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def listed(text: str, mark: str) -> str:
    """A list item: its first line after the mark, the others under it."""
    first, *rest = text.split("\n")
    return "\n".join([mark + first, *(" " * len(mark) + line if line else "" for line in rest)])


def table(header: list[str], marks: list[str], rows: list[list[str]]) -> str:
    """A table; marks are the rule under the header, `---` or `--:` and so on."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, marks, *rows])
