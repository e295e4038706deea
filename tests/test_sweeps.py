import builtins
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from distributed import Client
from experiments import counted, deadly, divides, draws, noted
from threadpoolctl import threadpool_info, threadpool_limits

from dynbook import sweeps
from dynbook.sweeps import SweepWarning, sweep

SCRIPT = Path(__file__).with_name("experiments.py")
BUSY = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def product(a, b, seed):
    return a * b


def written(folder):
    """The keys of all records, each as often as it stands there; the last may still be written."""
    lines = [line for f in folder.glob("*.jsonl") for line in f.open() if line.endswith("\n")]
    return Counter(json.loads(line)["key"] for line in lines)


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.01)


def script(*words):
    return subprocess.Popen([sys.executable, SCRIPT, *map(str, words)], stdout=subprocess.PIPE)


def test_a_grid_is_all_combinations_with_the_last_name_and_then_seeds_fastest():
    table = sweep(product, {"a": [1, 2], "b": torch.tensor([3, 5])}, seeds=(8, 9), workers=0)
    assert table["value"].reshape(2, 2, 2).tolist() == [[[3, 3], [5, 5]], [[6, 6], [10, 10]]]
    assert table["seed"].tolist() == [8, 9] * 4
    assert len(table) == len(table.seconds) == 8


def test_a_list_of_cells_is_taken_in_its_order():
    table = sweep(product, ({"a": a, "b": 1} for a in (3, 1, 2)), workers=0)
    assert table["value"].tolist() == [3, 1, 2]


@pytest.fixture
def _default_dtype():
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_default_dtype")
def test_a_cell_has_the_same_numbers_on_any_number_of_workers_and_in_any_order(tmp_path):
    def numbers(table):
        return {
            (row["n"], row["seed"]): [
                row[k].tolist() if k in ("own", "torch", "sum") else row[k] for k in row
            ]
            for row in table.rows
        }

    torch.set_default_dtype(torch.float64)  # goes with the cells
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    one = sweep(draws, {"n": [1, 2, 3]}, seeds=4, workers=0)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    two = sweep(draws, {"n": [3, 1, 2]}, seeds=4, workers=2, folder=tmp_path)
    read = sweep(draws, {"n": [2, 3, 1]}, seeds=4, workers=2, folder=tmp_path)
    assert numbers(one) == numbers(two) == numbers(read)
    assert set(one["threads"]) == set(two["threads"]) == {1}
    assert two["sum"].dtype == torch.float64


def spoils(n, widths, seed):
    """What it finds, and leaves otherwise."""
    threads = max(each["num_threads"] for each in threadpool_info()), torch.get_num_threads()
    found = len(widths), *threads, str(torch.get_default_dtype())
    widths.append(n)
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    return found


@pytest.mark.usefixtures("_default_dtype")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cell_does_not_see_what_an_earlier_one_left_behind(workers, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with threadpool_limits(2):
        table = sweep(spoils, {"n": range(5), "widths": [[]]}, workers=workers)
    assert table["value"] == [[0, 1, 1, "torch.float32"]] * 5
    assert torch.get_default_dtype() == torch.float32
    assert all(row["widths"] == [] for row in table.rows)


def third(seed):
    return torch.tensor(1.0) / 3


@pytest.mark.usefixtures("_default_dtype")
def test_cells_of_another_precision_are_not_used_again(tmp_path):
    for dtype in (torch.float32, torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        assert sweep(third, [{}], folder=tmp_path, workers=0)["value"].dtype == dtype
    assert len(written(tmp_path)) == 2


def blas_threads(seed):
    return max(each["num_threads"] for each in threadpool_info())


def test_numpy_has_one_thread_in_a_worker_of_another(tmp_path):
    with ProcessPoolExecutor(1, get_context("spawn"), threadpool_limits, (2,)) as pool:
        assert sweep(blas_threads, [{}], executor=pool)["value"].tolist() == [1]


def test_derived_seeds_differ_from_cell_to_cell_and_more_seeds_keep_the_first():
    few = sweep(product, {"a": range(20), "b": [1]}, seeds=5, workers=0)["seed"].reshape(20, 5)
    more = sweep(product, {"a": range(20), "b": [1]}, seeds=7, workers=0)["seed"].reshape(20, 7)
    other = sweep(product, {"a": range(20), "b": [1]}, seeds=5, seed=1, workers=0)["seed"]
    assert len(set(few.flat) | set(other)) == 200
    assert (more[:, :5] == few).all()


def every_kind(seed):
    return {
        "a number": 0.1,
        "not finite": [float("inf"), -0.0, None, True],
        "complex": 1 - 2j,
        "text": "ζ\ud800",
        "numpy": np.float32(0.1),
        "array": np.arange(6, dtype=">i2").reshape(2, 3)[:, ::2],
        "bfloat16": torch.tensor([0.1, float("nan")], dtype=torch.bfloat16),
        "a number, as a tensor": torch.tensor(0.1, dtype=torch.float64),
        "none": torch.empty(0, 3, dtype=torch.complex64),
        "conj": {"deeper": (torch.tensor([1 + 2j]).conj(),)},
        "learned": torch.ones(2, requires_grad=True),
    }


def test_results_come_back_from_the_disk_to_the_bit(tmp_path):
    want = every_kind(0)
    for _ in range(2):  # fresh, then read
        (row,) = sweep(every_kind, [{}], folder=tmp_path, workers=0).rows
        assert list(row) == ["seed", *want]
        for name in ("a number", "complex", "text", "not finite"):
            assert repr(row[name]) == repr(want[name])
        assert row["numpy"] == np.float32(0.1).item()
        assert row["array"].dtype == ">i2" and (row["array"] == want["array"]).all()
        for name in ("bfloat16", "a number, as a tensor", "none", "learned"):
            assert row[name].dtype == want[name].dtype and not row[name].requires_grad
            torch.testing.assert_close(row[name], want[name].detach(), equal_nan=True)
        assert row["conj"]["deeper"] == [torch.tensor([1 - 2j])]


def shapes(n, seed):
    return {"tensor": torch.zeros(2), "array": np.zeros(2), "ragged": torch.zeros(n)}


def test_columns_are_tensors_arrays_or_lists():
    table = sweep(shapes, {"n": [1, 2, 3]}, workers=0)
    assert table["tensor"].shape == (3, 2)
    assert isinstance(table["array"], np.ndarray) and table["array"].shape == (3, 2)
    assert [len(x) for x in table["ragged"]] == [1, 2, 3]
    with pytest.raises(KeyError, match="no column 'loss' in a row with n, seed, tensor"):
        table["loss"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_is_recorded_and_the_rest_goes_on(tmp_path, workers):
    grid = {"n": [1, 0, 2], "log": [str(tmp_path / "log")]}
    for _ in range(2):  # the second reports it again, and runs nothing
        with pytest.warns(SweepWarning, match="1 of 3 cells failed, the first at {'n': 0"):
            table = sweep(divides, grid, seeds=[7], folder=tmp_path / "cells", workers=workers)
        assert table["value"].tolist() == [1, 0.5]
        (failure,) = table.failures
        assert (failure.parameters["n"], failure.seed) == (0, 7)
        assert failure.error == "ZeroDivisionError: division by zero"
        assert "return 1 / n" in failure.traceback
        assert noted(tmp_path / "log") == [1, 0, 2]
    with pytest.warns(SweepWarning):
        sweep(divides, grid, seeds=[7], folder=tmp_path / "cells", workers=0, retry=True)
    assert noted(tmp_path / "log") == [1, 0, 2, 0]


@BUSY
@pytest.mark.parametrize("folder", [None, "cells"])
def test_a_cell_that_kills_its_workers_fails_and_the_others_go_on(tmp_path, folder):
    folder, log = folder and tmp_path / folder, str(tmp_path / "log")
    with pytest.warns(SweepWarning, match="1 of 12 cells failed.*alone, and its worker died"):
        table = sweep(deadly, {"n": range(12), "log": [log]}, folder=folder, workers=2)
    assert table["value"].tolist() == [n for n in range(12) if n != 3]
    ran = Counter(noted(log))
    assert ran[3] == 1 + sweeps.LIVES
    if folder:
        assert set(ran.values()) - {ran[3]} <= {1}
        assert set(written(folder).values()) == {1}


def gone(processes):
    dead = psutil.STATUS_ZOMBIE
    until(lambda: not any(p.is_running() and p.status() != dead for p in processes), 10)


def started(folder, least):
    return sum(written(folder).values()) >= least if folder.is_dir() else False


@BUSY
def test_a_killed_client_takes_its_workers_with_it_and_loses_one_cell_of_each(tmp_path):
    folder, log = tmp_path / "cells", tmp_path / "log"
    words = folder, log, 200, 0.01
    run = script(*words)
    until(lambda: started(folder, 60))
    workers = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    gone(workers)
    assert sum(written(folder).values()) < 200
    out, _ = script(*words).communicate(timeout=60)
    assert out.split() == [b"200"]
    ran = Counter(noted(log))
    assert set(ran) == set(range(200)) and sum(ran.values()) <= 202
    assert len(written(folder)) == sum(written(folder).values()) == 200


@BUSY
def test_control_c_stops_at_once_and_keeps_what_is_finished(tmp_path):
    folder, log = tmp_path / "cells", tmp_path / "log"
    run = script(folder, log, 40, 0.3)
    until(lambda: started(folder, 4))
    kept, workers = sum(written(folder).values()), psutil.Process(run.pid).children()
    run.send_signal(signal.SIGINT)
    run.wait(timeout=10)
    assert run.returncode != 0
    assert kept <= sum(written(folder).values()) <= kept + 4
    gone(workers)


def stops(seed):
    raise KeyboardInterrupt


def test_no_worker_is_left_when_a_sweep_ends_by_an_exception():
    before = {*psutil.Process().children()}
    with pytest.raises(KeyboardInterrupt):
        sweep(stops, [{}], workers=1)
    gone({*psutil.Process().children()} - before)


@pytest.fixture
def cluster(tmp_path):
    """A scheduler, a way to start workers, and the file by which all find each other."""
    found, processes = tmp_path / "scheduler.json", []
    env = os.environ | {"PYTHONPATH": str(SCRIPT.parent), "OMP_NUM_THREADS": "1"}
    env["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "1"

    def start(role, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *words]
        command += ["--no-dashboard", "--scheduler-file", found]
        quiet = subprocess.DEVNULL
        processes.append(subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet))
        return processes[-1]

    start("scheduler", "--port", "0", "--host", "127.0.0.1")
    words = "--nthreads", "1", "--local-directory", tmp_path
    yield found, lambda *more: start("worker", *words, *more)
    for process in processes:
        below = psutil.Process(process.pid).children(recursive=True)
        for each in (process, *below):
            each.kill()
        process.wait()


@BUSY
def test_a_thousand_cells_survive_the_kill_of_a_worker_and_of_the_client(cluster, tmp_path):
    """Nothing is lost, and nothing runs twice but the cell that the killed worker was running."""
    scheduler, start = cluster
    worker, _ = start("--no-nanny"), start("--no-nanny")
    folder, log = tmp_path / "cells", tmp_path / "log"
    words = folder, log, 1000, 0.01, scheduler
    run = script(*words)
    until(lambda: started(folder, 200))
    worker.kill()
    start("--no-nanny")
    until(lambda: started(folder, 500))
    run.kill()
    run.wait()
    assert sum(written(folder).values()) < 1000
    out, _ = script(*words).communicate(timeout=100)
    assert out.split() == [b"1000"]
    ran = Counter(noted(log))
    assert set(ran) == set(range(1000)) and sum(ran.values()) <= 1001
    assert len(written(folder)) == sum(written(folder).values()) == 1000


@BUSY
def test_a_cell_that_kills_its_workers_is_told_apart_on_a_cluster_too(cluster, tmp_path):
    scheduler, start = cluster
    start("--nworkers", "2")  # started again when they die
    folder, log = tmp_path / "cells", str(tmp_path / "log")
    grid = {"n": range(12), "log": [log]}
    with (
        Client(scheduler_file=str(scheduler)) as client,
        pytest.warns(SweepWarning, match="1 of 12 cells failed.*alone, and its worker died"),
    ):
        table = sweep(deadly, grid, folder=folder, executor=client.get_executor())
    assert table["value"].tolist() == [n for n in range(12) if n != 3]
    ran = Counter(noted(log))
    assert ran.pop(3) > 1 and set(ran.values()) == {1}


def test_two_sweeps_at_once_share_a_folder(tmp_path):
    folder, log = tmp_path / "cells", tmp_path / "log"
    words = folder, log, 100, 0.01
    runs = [script(*words) for _ in range(2)]
    assert [run.communicate(timeout=60)[0].split() for run in runs] == [[b"100"]] * 2
    ran = len(noted(log))
    assert script(*words).communicate(timeout=60)[0].split() == [b"100"]
    assert len(noted(log)) == ran and len(written(folder)) == 100


def test_a_line_that_was_cut_off_is_run_again_and_only_that(tmp_path):
    folder, log = tmp_path / "cells", str(tmp_path / "log")
    grid = {"n": range(5), "log": [log], "seconds": [0.0]}
    sweep(counted, grid, folder=folder, workers=0)
    (file,) = (f for f in folder.iterdir() if '"n": 4' in f.read_text())
    file.write_bytes(file.read_bytes()[:-5])
    assert sweep(counted, grid, folder=folder, workers=0)["value"].tolist() == [0, 1, 4, 9, 16]
    assert noted(log) == [0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("line", ["alien", "{}", "[1]", "3", "null", '{"key": [1]}', "\xff"])
def test_lines_of_others_in_the_folder_are_passed_over(tmp_path, line):
    (tmp_path / "other.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    for _ in range(2):
        assert sweep(product, {"a": [2], "b": [3]}, folder=tmp_path, workers=0)["value"] == [6]


def test_chunks_take_half_a_second(tmp_path):
    grid = {"n": range(800), "log": [str(tmp_path / "log")], "seconds": [0.002]}
    table = sweep(counted, grid, folder=tmp_path / "cells", workers=1)
    chunks = len(list((tmp_path / "cells").iterdir()))
    assert chunks <= 4 + table.seconds.sum() / sweeps.CHUNK


def test_another_version_runs_anew(tmp_path):
    for version, files in (("1", 1), ("1", 1), ("2", 2)):
        sweep(product, {"a": [1], "b": [2]}, folder=tmp_path, workers=0, version=version)
        assert len(list(tmp_path.iterdir())) == files


MODULE = """
factor = 3
class Net: depth = 2
def helper(x):
    return [x * factor * Net.depth for _ in range(2)][0]
def make(offset):
    def experiment(n, seed):
        return helper(n) + offset
    return experiment
"""


@pytest.mark.parametrize(
    ("offset", "changed"),
    [(0, ("", "")), (1, ("", "")), *((0, c) for c in (("3", "4"), ("= 2", "= 5"), ("[0]", "[1]")))],
)
def test_a_changed_experiment_is_told_by_whatever_it_uses(tmp_path, monkeypatch, offset, changed):
    monkeypatch.syspath_prepend(tmp_path)

    def run(name, text, offset):
        """The module comes from another file, but under the same name."""
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        space = {"__name__": "study"}
        exec(compile(text, file, "exec"), space)
        sweep(space["make"](offset), {"n": [1]}, folder=tmp_path / "cells", workers=0)

    run("first", MODULE, 0)
    same = (offset, *changed) == (0, "", "")
    with nullcontext() if same else pytest.warns(SweepWarning, match="1 cells in .* another text"):
        run("second", MODULE.replace(*changed) if changed[0] else MODULE, offset)


NOTEBOOK = """
from dynbook.sweeps import sweep
factor = 3
def times(n, seed):
    return factor * n
print(sweep(times, {"n": [1, 2]}, workers=1)["value"].tolist())
print(sweep(lambda n, seed: n, {"n": [1, 2]}, workers=1)["value"].tolist())
"""


def test_functions_of_a_notebook_travel_with_what_they_refer_to():
    said = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True)
    assert said.stdout.split("\n")[:2] == ["[3, 6]", "[1, 2]"], said.stderr


def test_without_cloudpickle_they_are_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(TypeError, match=r"pip install cloudpickle.*workers=0"):
        sweep(lambda seed: 1, [{}], workers=1)
    assert sweep(product, {"a": [2], "b": [3]}, workers=1)["value"] == 6
    assert sweep(lambda seed: 1, [{}], workers=0)["value"] == 1


def test_a_script_without_its_guard_is_told_what_is_missing(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(NOTEBOOK)
    said = subprocess.run([sys.executable, file], capture_output=True, text=True)
    assert 'call sweep below `if __name__ == "__main__":`' in said.stderr


def test_other_executors_of_the_standard_library_will_do():
    with ThreadPoolExecutor(3) as pool:
        table = sweep(product, {"a": range(10), "b": [2]}, executor=pool)
    assert table["value"].tolist() == list(range(0, 20, 2))


def test_the_bar_counts_cells(capsys, tmp_path):
    sweep(product, {"a": [0], "b": [2]}, folder=tmp_path, workers=0)
    sweep(product, {"a": range(4), "b": [2]}, folder=tmp_path, workers=0, progress=True)
    assert re.search(r"4/4 .*cell", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.ma.masked_invalid([1, np.nan]), "TypeError: what the experiment returned must be a"),
        ({"all": [10**5000]}, "ValueError: what the experiment returned, all must have whole"),
        ({1: 2}, "TypeError: what the experiment returned must be a number"),
    ],
)
def test_a_cell_whose_result_cannot_be_written_fails_and_the_rest_goes_on(value, said, tmp_path):
    def first(n, seed):
        return value if n == 0 else n

    with pytest.warns(SweepWarning, match="1 of 3 cells failed"):
        table = sweep(first, {"n": range(3)}, folder=tmp_path, workers=0)
    assert table["value"].tolist() == [1, 2] and table.failures[0].error.startswith(said)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"experiment": 3}, TypeError, "experiment must be a function, got 3"),
        ({"experiment": itertools.product}, TypeError, "experiment must be a function"),
        ({"cells": {"a": [1]}}, TypeError, "must take seed and the parameters a: missing"),
        ({"cells": [3]}, TypeError, r"cells must be a grid.*got 3 among them"),
        (
            {"cells": {"a": "relu", "b": [1]}},
            TypeError,
            r"got 'relu' for a; for one",
        ),
        ({"cells": {"a": [1], "b": 1}}, TypeError, r"got 1 for b; for one write \[1\]"),
        ({"cells": []}, ValueError, "must not be empty"),
        ({"cells": {"a": [1], "b": [{1}]}}, TypeError, "parameters, b must be a number"),
        ({"cells": [{"a": 1, "b": 1, "seed": 2}]}, ValueError, "must not name seed"),
        ({"seeds": 0}, ValueError, "seeds must be an integer ≥ 1, got 0"),
        ({"seeds": [1, 1]}, ValueError, "name one cell twice.*seed 1"),
        ({"seeds": [-1]}, ValueError, "each of seeds must be an integer ≥ 0"),
        ({"seeds": [2**64]}, ValueError, r"less than 2\*\*63, got 18446744073709551616"),
        ({"workers": -1}, ValueError, "workers must be an integer ≥ 0"),
        ({"executor": 3, "workers": None}, TypeError, r"Client\(address\).get_executor\(\), got 3"),
        ({"folder": 3}, TypeError, "folder must be a path, got 3"),
    ],
)
def test_what_is_refused(words, error, said):
    given = {"experiment": product, "cells": {"a": [1], "b": [2]}, "workers": 0} | words
    with pytest.raises(error, match=said):
        sweep(given.pop("experiment"), given.pop("cells"), **given)


def test_a_lambda_has_no_name_to_find_it_by(tmp_path):
    with pytest.raises(ValueError, match="write a def, not a lambda"):
        sweep(lambda seed: 1, [{}], folder=tmp_path, workers=0)


@pytest.mark.parametrize(
    ("result", "said"), [({"a": 1}, "returned a, which the table has"), (builtins, "must be a num")]
)
def test_a_result_that_cannot_be_kept_is_a_failure(result, said):
    def bad(a, seed):
        return result

    with pytest.warns(SweepWarning, match=said):
        assert len(sweep(bad, {"a": [1]}, workers=0)) == 0


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    job = sweeps._Job(product, tmp_path / "elsewhere", "", torch.float32)
    with pytest.raises(FileNotFoundError, match="where all machines of the cluster see it"):
        sweeps._work(job, "token", [])
