import json
import math
import re
import subprocess

import pytest
import torch

from dynbook import results


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "data")


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


def test_the_scale_is_one_of_two_words(monkeypatch):
    monkeypatch.delenv("DYNBOOK_SCALE", raising=False)
    assert results.scale() == "laptop"
    monkeypatch.setenv("DYNBOOK_SCALE", "paper")
    assert results.scale() == "paper"
    monkeypatch.setenv("DYNBOOK_SCALE", "huge")
    with pytest.raises(ValueError, match=r"DYNBOOK_SCALE.*'huge'"):
        results.scale()


@pytest.mark.parametrize(
    ("gpu", "words"),
    [(True, r"Some GPU"), (False, r"CPU, [1-9]\d* cores, \w+")],
    ids=["gpu", "cpu"],
)
def test_the_device_is_said_in_words(monkeypatch, gpu, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert re.fullmatch(words, results.device())
