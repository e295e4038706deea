"""Files of runs: what tells two of them apart, and what a disk or a stranger can do to one."""

import os
import time
from types import SimpleNamespace

import pytest
import torch

from dynbook.checkpoints import CheckpointError, Keeper, alike, digest, resume, write

RUN = {"lr": 0.1, "start": digest(torch.ones(3))}
STATE = {"step": 7, "theta": torch.arange(4.0)}


def test_a_digest_tells_apart_what_differs_in_any_way():
    x = torch.arange(6.0)
    different = [
        x, x.double(), x.view(2, 3), x.view(3, 2), x.view(torch.int32), x[:5], -x,
        {"a": x, "b": x[:0]}, {"b": x, "a": x[:0]}, {"a": x, "c": x[:0]}, 6, 6.0, "6",
    ]  # fmt: skip
    assert len({bytes(digest(one).tolist()) for one in different}) == len(different)
    assert torch.equal(digest({"a": x, "b": 1}), digest({"b": 1, "a": x}))
    assert torch.equal(digest(x.view(2, 3).T), digest(x.view(2, 3).T.contiguous()))
    assert torch.equal(digest(x[:1].expand(3)), digest(torch.zeros(3)))


def test_values_are_alike_within_what_they_may_differ_by():
    inf, nan = torch.inf, torch.nan
    here = torch.tensor([[1.0, inf, nan], [0.1, 0.1, 0.1]])
    for values, same in [
        ((1.05, inf, nan), True),
        ((1.2, inf, nan), False),
        ((1.0, 3.0, nan), False),
        ((1.0, inf, 1.0), False),
    ]:
        assert alike(torch.tensor([values, (0.0, 0.0, 0.0)]), here) is same
    assert not alike(here.double(), here) and not alike(here[:, :2], here)
    assert not alike(1, 1.0) and alike("a", "a") and not alike(torch.ones(1), 1.0)


def test_what_was_changed_on_the_disk_is_not_read(tmp_path):
    file = tmp_path / "run.pt"
    write(file, RUN, STATE)
    assert torch.equal(resume(file, RUN, STATE)["theta"], STATE["theta"])
    content = torch.load(file, weights_only=True)
    content["state"]["theta"][2] += 1e-6
    torch.save(content, file)
    with pytest.raises(CheckpointError, match="its bytes are not those that were written"):
        resume(file, RUN, STATE)


def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    write(file, RUN, STATE)

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write(file, RUN, {**STATE, "step": 8})
    assert resume(file, RUN, STATE)["step"] == 7 and os.listdir(tmp_path) == ["run.pt"]


def test_a_state_that_is_older_than_the_file_is_not_offered_again_at_once(tmp_path):
    keeper = Keeper(tmp_path / "run.pt", seconds=100.0)
    keeper.begin(RUN, STATE)
    write(keeper.file, RUN, STATE)
    keeper.offer(SimpleNamespace(**{**STATE, "step": 3}))
    assert keeper.due > time.monotonic() + 50
    assert resume(keeper.file, RUN, STATE)["step"] == 7
    keeper.close(SimpleNamespace(**{**STATE, "step": 8}))
    assert resume(keeper.file, RUN, STATE)["step"] == 8
