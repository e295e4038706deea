import json
import math
import re
import subprocess

import pytest
import torch

from dynbook import results


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("DYNBOOK_SCALE", raising=False)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "data")
    monkeypatch.setattr(results, "TRIAL", tmp_path / "_build" / "trial")


def test_what_is_recorded_comes_back_with_its_origin():
    results.record("trial", values=torch.tensor([1.5, 2.5]), n=3)
    back = results.recorded("trial")
    assert back["values"] == [1.5, 2.5] and back["n"] == 3
    assert back["device"] and len(back["date"]) == 10 and back["commit"]


def test_a_failed_write_leaves_the_old_record():
    results.record("trial", n=1)
    with pytest.raises(TypeError, match=r"n must be .* numbers"):
        results.record("trial", n=object())
    assert results.recorded("trial")["n"] == 1
    assert json.loads((results.FOLDER / "trial.json").read_text())["n"] == 1


def test_what_comes_back_is_what_was_returned():
    returned = results.record("trial", pair=(1, 2.5), word="n⁴", grid=torch.eye(2))
    assert returned == results.recorded("trial")
    assert returned["pair"] == [1, 2.5] and returned["grid"] == [[1, 0], [0, 1]]
    assert [f.name for f in results.FOLDER.iterdir()] == ["trial.json"]


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_a_commit_says_if_more_than_records_differed_from_it(tmp_path):
    assert results.record("trial", n=1)["commit"] == "unknown"
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("n = 1")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "one")
    clean = results.record("trial", n=2)["commit"]
    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    (tmp_path / "code.py").write_text("n = 2")
    assert results.record("trial", n=2)["commit"] == f"{clean}, with changes"


@pytest.mark.parametrize("name", ["device", "date", "commit"])
def test_where_a_record_comes_from_cannot_be_given(name):
    with pytest.raises(ValueError, match=f"{name} must not be given.*choose another name"):
        results.record("trial", **{name: 3})
    assert not results.FOLDER.exists()


@pytest.mark.parametrize("name", ["../trial", "a/b", "/tmp/trial", "", ".", "a\\b", "a.part"])
def test_a_record_stays_in_its_folder(name):
    for call in (results.record, results.recorded):
        with pytest.raises(ValueError, match="name must be of letters, digits"):
            call(name)


@pytest.mark.parametrize("value", [math.nan, [1, -math.inf], torch.tensor([1, torch.nan])])
def test_what_is_not_finite_is_not_recorded(value):
    with pytest.raises(ValueError, match="values must be finite"):
        results.record("trial", values=value)
    assert not results.FOLDER.exists()


def test_without_the_book_it_is_said_where_it_was_looked_for(tmp_path, monkeypatch):
    """As after `pip install` of the package alone."""
    monkeypatch.setattr(results, "FOLDER", tmp_path / "site-packages" / "book" / "data")
    for call in (results.record, results.recorded):
        with pytest.raises(FileNotFoundError, match=r"site-packages/book/data.*clone"):
            call("3-disk-spectrum")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_record_is_named_with_those_there_are():
    results.record("other", n=1)
    with pytest.raises(FileNotFoundError, match=r"'trial' in .*data; there are: other"):
        results.recorded("trial")


def test_the_scale_is_one_of_three_words(monkeypatch):
    assert results.scale() == "laptop"
    for word in ("laptop", "trial", "paper"):
        monkeypatch.setenv("DYNBOOK_SCALE", word)
        assert results.scale() == word
    monkeypatch.setenv("DYNBOOK_SCALE", "huge")
    with pytest.raises(ValueError, match=r"DYNBOOK_SCALE.*'huge'"):
        results.scale()


@pytest.mark.parametrize(("word", "size"), [("laptop", 10), ("paper", 10), ("trial", 2)])
def test_only_a_trial_is_small(monkeypatch, word, size):
    monkeypatch.setenv("DYNBOOK_SCALE", word)
    assert results.at_scale(10, 2) == size


def test_a_trial_is_read_back_and_overwrites_nothing(monkeypatch):
    results.record("one", n=1)
    results.record("two", n=2)
    monkeypatch.setenv("DYNBOOK_SCALE", "trial")
    results.record("one", n=10)
    assert [results.recorded(name)["n"] for name in ("one", "two")] == [10, 2]
    monkeypatch.setenv("DYNBOOK_SCALE", "laptop")
    assert results.recorded("one")["n"] == 1
    assert [f.name for f in results.TRIAL.iterdir()] == ["one.json"]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with a commit, and the scale of the papers."""
    monkeypatch.setenv("DYNBOOK_SCALE", "paper")
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("_build/\n")
    (tmp_path / "code.py").write_text("n = 1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    return tmp_path


def test_an_experiment_is_due_until_this_commit_has_recorded_it(clone, monkeypatch):
    assert results.due("one")
    results.record("one", n=1)
    assert not results.due("one") and results.due("two")
    git(clone, "commit", "--allow-empty", "-m", "two")
    assert results.due("one")
    for word, expected in (("laptop", False), ("trial", True)):
        monkeypatch.setenv("DYNBOOK_SCALE", word)
        assert results.due("one") is expected


def test_an_experiment_is_due_where_anything_differs_from_the_commit(clone):
    (clone / "code.py").write_text("n = 2")
    results.record("one", n=2)
    assert results.due("one")
    (clone / "code.py").write_text("n = 1")
    assert results.due("one"), "it was written with changes"
    results.record("one", n=1)
    (clone / "code.py").write_text("n = 2")
    assert results.due("one"), "there are changes now"


def test_without_a_commit_everything_is_due(monkeypatch):
    monkeypatch.setenv("DYNBOOK_SCALE", "paper")
    assert results.record("one", n=1)["commit"] == "unknown"
    assert results.due("one") and results.checkpoint("one") is None


def test_a_checkpoint_belongs_to_a_commit(clone, monkeypatch):
    first = results.checkpoint("one")
    assert first.parent.is_dir() and first == results.checkpoint("one")
    git(clone, "commit", "--allow-empty", "-m", "two")
    assert results.checkpoint("one") != first
    monkeypatch.setenv("DYNBOOK_SCALE", "trial")
    assert results.checkpoint("one") is None
    monkeypatch.setenv("DYNBOOK_SCALE", "paper")
    (clone / "code.py").write_text("n = 2")
    assert results.checkpoint("one") is None


@pytest.mark.parametrize("gpu", [True, False])
def test_the_best_device_is_a_gpu_where_there_is_one(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert results.best_device() == torch.device("cuda" if gpu else "cpu")


@pytest.mark.parametrize(
    ("on", "words"),
    [("cuda", r"Some GPU"), ("cpu", r"CPU, [1-9]\d* cores, \w+")],
)
def test_what_computed_is_recorded_in_words(monkeypatch, on, words):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    assert re.fullmatch(words, results.record("trial", on=torch.device(on), n=1)["device"])


def test_what_is_not_said_to_be_of_a_gpu_is_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert results.record("trial", n=1)["device"].startswith("CPU")
