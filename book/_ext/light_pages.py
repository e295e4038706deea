"""A quick first visit: a page asks for one script and MathJax, and need wait for neither.

After the build each page gets the rules that it can use, of all its style sheets, in one block; the
icons as shapes in that block, instead of a script that knows all there are; and its scripts as one
file that is run when the page has been read. All of it works from file:// addresses too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

import pydata_sphinx_theme
from fontTools.subset import Options, Subsetter, load_font, save_font

SHEET = re.compile(
    r'[ \t]*<link (?=[^>]*rel="stylesheet")[^>]*?href="(?P<name>[^"?]*)[^"]*"[^>]*/?>\n?'
)
BLOCK = re.compile(r'<style data-sheets="([^"]*)">.*?</style>\n?', re.DOTALL)
SCRIPT = re.compile(
    r'[ \t]*<script(?P<how>[^>]*?) src="(?P<src>[^"?]*)(?P<rest>[^>]*)></script>\n?'
)
PRELOAD = re.compile(r'[ \t]*<link rel="preload" as="(?:script|font)"[^>]*>\n?')
THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
ICONS = THEME / "scripts" / "fontawesome.js"
LETTERS = THEME / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.ttf"
#: In the order in which they are to run.
MERGED = (
    "doctools.js", "sphinx_highlight.js", "clipboard.min.js", "copybutton.js",
    "scripts/sphinx-book-theme.js", "accessible.js", "togglebutton.js", "design-tabs.js",
    "scripts/bootstrap.js", "scripts/pydata-sphinx-theme.js",
)  # fmt: skip
SCRIPT_FILE = "_static/book.js"
OPTIONS = "_static/documentation_options.js"  # inline: other inline scripts write into it
UNUSED = ("_static/scripts/fontawesome.js", "_static/sphinx-thebe.css")
FAMILIES = {"fas": "fas", "fa-solid": "fas", "fab": "fab", "fa-brands": "fab", "far": "far",
            "fa-regular": "far"}  # fmt: skip
ICON_STYLE = (
    ":where(.fas,.fab,.far,.fa-solid,.fa-brands,.fa-regular){display:inline-block;width:1em;"
    "height:1em;vertical-align:-.125em;background:currentColor;forced-color-adjust:none;"
    "mask:var(--shape) center/contain no-repeat}.fa-lg{font-size:1.25em;vertical-align:-.2em}"
    "@media print{:where(.fas,.fab,.far){print-color-adjust:exact}}"
)
STRING = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\''
BRACES = re.compile(STRING + r"|url\([^)\"\']*\)|[{}]")
PROPERTY = re.compile(
    r"(?<=[{;])\s*(--[\w-]+)\s*:(?:" + STRING + r"|\([^()]*\)|[^;{}\"'])*(?:;|(?=\}))"
)
NAME = re.compile(r"[.#](-?[_a-zA-Z][\w-]*)")
Rules = list[tuple[str, "str | Rules"]]


def parse(css: str) -> Rules:
    """A sheet as (selector or at-rule, body), bodies of @media and the like parsed in turn."""
    rules, at = [], 0
    for token in re.finditer(STRING + "|[{};]", css):
        if token.start() < at:
            continue
        if token[0] == ";":
            at = token.end()  # @charset, @import of what is inlined already
        elif token[0] == "{":
            head, end = css[at : token.start()].strip(), closing(css, token.end())
            body = css[token.end() : end].strip()
            nested = head.startswith(("@media", "@supports", "@layer", "@container"))
            rules.append((head, parse(body) if nested else body))
            at = end + 1
    return rules


def closing(css: str, start: int) -> int:
    """Where the brace that was opened before `start` is closed."""
    depth = 1
    for token in BRACES.finditer(css, start):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.start()
    raise ValueError(f"a style sheet has an unclosed brace: {css[start - 60 : start]!r}")


@cache
def asked(selector: str) -> frozenset[str] | None:
    """The classes and ids without which a selector finds nothing; None for icons of a font."""
    if re.match(r"\.fa[srb]?(-[\w-]+)?\b", selector):
        return None
    plain = re.sub(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)", "", selector)
    return frozenset(NAME.findall(plain.replace("\\", "")))


def usable(selector: str, words: frozenset[str]) -> bool:
    """Whether a page with these words can have what a selector asks for."""
    names = asked(selector)
    return names is not None and names <= words


@cache
def split(selectors: str) -> list[str]:
    """A selector list at its outer commas."""
    parts, depth = [""], 0
    for piece in re.split(r"([,()\[\]])", selectors):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(piece, 0)
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [p.strip() for p in parts]


READ = re.compile(r"--[\w-]+(?=\s*[,)\"'])")


def without_unread(css: str, elsewhere: frozenset[str]) -> str:
    """Without the custom properties that nothing reads."""
    while True:
        read = elsewhere.union(READ.findall(css))
        less = PROPERTY.sub(partial(_if_in, read), css)
        if less == css:
            return css
        css = less


def _if_in(read: frozenset[str], declaration: re.Match) -> str:
    return declaration[0] if declaration[1] in read else ""


@cache
def words_of(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[\w-]+", text))


def purged(rules: Rules, words: frozenset[str]) -> str:
    """The rules that a page with these words can use."""
    kept = []
    for head, body in rules:
        if isinstance(body, list):
            inner = purged(body, words)
            kept.append(f"{head}{{{inner}}}" if inner else "")
        elif head.startswith(("@font-face", "@keyframes fa-")):
            continue  # the icons' fonts and dances: icons are shapes here
        elif head.startswith("@"):
            kept.append(f"{head}{{{body}}}")
        elif alive := [s for s in split(head) if usable(s, words)]:
            kept.append(f"{','.join(alive)}{{{body}}}")
    return "".join(kept)


@cache
def sheet(file: Path, changed: int) -> Rules:
    """The rules of a style sheet, after those that it imports."""
    css = re.sub(r"/\*.*?\*/", "", file.read_text(encoding="utf8"), flags=re.DOTALL)
    css = re.sub(r"\s*\n\s*", " ", css)
    rules: Rules = []
    for name in re.findall(r'@import (?:url\()?"([^"]+)"', css):
        other = (file.parent / name).resolve()
        rules += sheet(other, other.stat().st_mtime_ns)
    return rules + parse(css)


@cache
def names_in(file: Path, changed: int) -> frozenset[str]:
    """The classes and ids that a style sheet asks for."""

    def walk(rules: Rules) -> Iterator[str]:
        for head, body in rules:
            if isinstance(body, list):
                yield from walk(body)
            else:
                yield from (n for s in split(head) for n in asked(s) or ())

    return frozenset(walk(sheet(file, changed)))


@cache
def kept_of(file: Path, changed: int, words: frozenset[str]) -> str:
    """What of a style sheet a page with these words can use."""
    return purged(sheet(file, changed), words)


@cache
def shapes() -> dict[str, dict[str, tuple[str, str, str]]]:
    """Width, height and path of every icon, by family and name."""
    tables = {}
    entry = re.compile(r'"?([\w-]+)"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]')
    for part in re.split(r"var (?=\w+=\{)", ICONS.read_text(encoding="utf8")):
        found = {m[1]: (m[2], m[3], m[4]) for m in entry.finditer(part)}
        if len(found) > 20:
            family = "fab" if "github" in found else "fas" if "rocket" in found else "far"
            tables[family] = found
    return tables


@cache
def letters(codes: frozenset[str]) -> str:
    """A font of the few icons that style sheets write as letters, inside its own rule."""
    options = Options(flavor="woff", desubroutinize=True, layout_features=[])
    font = load_font(LETTERS, options)
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=[int(code, 16) for code in codes])
    subsetter.subset(font)
    file = io.BytesIO()
    save_font(font, file, options)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        '@font-face{font-family:"Font Awesome 6 Free";font-weight:900;'
        f'src:url("data:font/woff;base64,{data}")}}'
    )


def icons(html: str) -> str:
    """A rule for each icon of a page: its shape, filled with the colour of the text."""
    rules = [ICON_STYLE]
    for classes in sorted(set(re.findall(r'class="([^"]*\bfa[-srb][^"]*)"', html))):
        names = classes.split()
        family = next((FAMILIES[n] for n in names if n in FAMILIES), None)
        for name in names:
            shape = shapes().get(family, {}).get(name.removeprefix("fa-"))
            if name.startswith("fa-") and shape:
                width, height, path = shape
                svg = (
                    f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
                    f"<path d='{path}'/></svg>"
                )
                url = quote(svg, safe="/:=' ,-")
                wide = int(width) / int(height)
                rule = f'.{name}{{--shape:url("data:image/svg+xml,{url}");width:{wide:.4g}em}}'
                rules += [rule] if rule not in rules else []
    return "".join(rules)


def one_block(html: str, page: Path, script: str) -> str:
    """The rules that this page can use, of all its sheets, in the place of the first."""
    done = BLOCK.search(html)
    names = done[1].split() if done else list(dict.fromkeys(SHEET.findall(html)))
    files = {n: (page.parent / n).resolve() for n in names if not n.endswith(UNUSED)}
    files = {n: f for n, f in files.items() if f.is_file()}
    if not files:
        return html
    said = re.findall(r'(?:class|id)=\\?"([^"]*)"', html)
    said += re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    own = [(page.parent / m["src"]).resolve() for m in SCRIPT.finditer(html)]
    said += [f.read_text(encoding="utf8") for f in own if f.is_file() and "mathjax" not in f.parts]
    words = words_of(script).union(*map(words_of, said))
    css = ""
    for file in files.values():
        changed = file.stat().st_mtime_ns
        css += kept_of(file, changed, words & names_in(file, changed))
    css = without_unread(css, words_of(script).union(READ.findall(html, html.index("</head>"))))
    codes = frozenset(re.findall(r"\\(f[0-9a-f]{3})\b", css))
    css += letters(codes) if codes else ""
    block = f'<style data-sheets="{" ".join(files)}">{css}{icons(html)}</style>\n'
    if done:
        return html[: done.start()] + block + html[done.end() :]
    first = SHEET.search(html).start()
    drop = {*files, *(n for n in names if n.endswith(UNUSED))}
    rest = SHEET.sub(lambda m: "" if m["name"] in drop else m[0], html[first:])
    return html[:first] + block + rest


def one_script(html: str, page: Path, site: Path, version: str) -> str:
    """The scripts of all pages as one, run when the page has been read; no other one before it."""
    up = "../" * (len(page.relative_to(site).parts) - 1)
    ours = f'<script defer="defer" src="{up}{SCRIPT_FILE}?v={version}"></script>\n'
    placed = False

    def put(m: re.Match) -> str:
        nonlocal placed
        name = m["src"].removeprefix(up)
        if name == OPTIONS:
            return f"<script>{(site / OPTIONS).read_text(encoding='utf8')}</script>\n"
        if name in UNUSED:
            return ""
        if name == SCRIPT_FILE or name.removeprefix("_static/") in MERGED:
            again, placed = placed, True
            return "" if again else ours
        if "://" in name or re.search(r"\b(defer|async|module)\b", m["how"] + m["rest"]):
            return m[0]
        return m[0].replace("<script", '<script defer="defer"', 1)

    return SCRIPT.sub(put, PRELOAD.sub("", html))


def merge(site: Path) -> str:
    """Write the scripts of all pages into one file."""
    files = [site / "_static" / name for name in MERGED]
    parts = [f.read_text(encoding="utf8") for f in files if f.is_file()]
    # The first statement is empty, or else one script's "use strict" would bind them all.
    script = ";\n" + "\n;\n".join(re.sub(r"//# sourceMappingURL=.*", "", p) for p in parts)
    (site / SCRIPT_FILE).write_text(script, encoding="utf8")
    return script


def lighten(app, exception) -> None:
    """Mend the pages written since the last build, or all if a style or script changed."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    script = merge(site)
    texts = [script] + [
        f.read_text(encoding="utf8") for f in sorted(site.rglob("_static/**/*.css"))
    ]
    version = hashlib.sha256(script.encode()).hexdigest()[:8]
    texts.append(Path(__file__).read_text(encoding="utf8"))
    key = hashlib.sha256("".join(texts).encode()).hexdigest()
    stamp = Path(app.doctreedir) / "light_pages"
    same = stamp.exists() and stamp.read_text() == key
    since = stamp.stat().st_mtime_ns if same else 0
    for page in sorted(site.rglob("*.html")):
        if "_static" in page.parts or page.stat().st_mtime_ns <= since:
            continue
        html = page.read_text(encoding="utf8")
        light = one_script(one_block(html, page, script), page, site, version)
        if light != html:
            page.write_text(light, encoding="utf8")
    stamp.write_text(key)


def setup(app):
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table
    app.connect("build-finished", lighten, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
