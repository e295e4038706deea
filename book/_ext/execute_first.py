"""Before Sphinx reads: execute what is out of date, and say which pages that concerns."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the book documents this checkout, installed or not

from dynbook.publish.execute import NotebookFailed, execute  # noqa: E402

TIMETABLES = ("book/reference/runtimes", "book/guide/path")  # show everybody's seconds


def choose_cache(app, config) -> None:
    """One cache, wherever `_build` is."""
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache")


def run(app) -> None:
    """Fill the cache; a failing cell ends the build with its place and traceback."""
    names = app.project.discover(app.config.exclude_patterns, app.config.include_patterns)
    try:
        app.dynbook_runs = execute(
            sorted(names),
            Path(app.config.nb_execution_cache_path),
            timeout=app.config.nb_execution_timeout,
        )
    except NotebookFailed as failed:
        raise SystemExit(f"\n{failed}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # the kernels are stopped, finished notebooks kept


def outdated(app, env, added, changed, removed) -> list[str]:
    """Pages whose outputs are not those that Sphinx has read."""
    before = getattr(env, "dynbook_keys", {})
    now = {name: r.key for name, r in app.dynbook_runs.items()}
    again = [name for name in now if before.get(name) != now[name] and name in env.found_docs]
    env.dynbook_keys = now
    return [*again, *(page for page in TIMETABLES if again and page in env.found_docs)]


def setup(app):
    gc.set_threshold(1_000_000, 50, 100)  # else half of a build looks through whole pages
    app.connect("config-inited", choose_cache, priority=1)
    app.connect("builder-inited", run)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
