import json

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
    with pytest.raises(TypeError):
        results.record("trial", n=object())
    assert results.recorded("trial")["n"] == 1
    assert json.loads((results.FOLDER / "trial.json").read_text())["n"] == 1


def test_a_missing_record_is_named_with_those_there_are():
    results.record("other", n=1)
    with pytest.raises(FileNotFoundError, match=r"'trial'.*other"):
        results.recorded("trial")


def test_the_scale_is_one_of_two_words(monkeypatch):
    monkeypatch.delenv("DYNBOOK_SCALE", raising=False)
    assert results.scale() == "laptop"
    monkeypatch.setenv("DYNBOOK_SCALE", "paper")
    assert results.scale() == "paper"
    monkeypatch.setenv("DYNBOOK_SCALE", "huge")
    with pytest.raises(ValueError, match=r"DYNBOOK_SCALE.*'huge'"):
        results.scale()
