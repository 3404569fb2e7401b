import os

import pytest
import torch
from torch import nn

from prediction.classifier import load_classifier
from training.runs import Run
from utils.checkpoints import REQUIRED_KEYS, CheckpointError, load_resumable, load_weights
from utils.config import load_config
from utils.errors import UserError
from utils.schema import FinetuneConfig


class Malicious:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def empty_checkpoint(**other) -> dict:
    """Return a training checkpoint with all required keys and empty values."""
    return {key: kind() for key, kind in REQUIRED_KEYS.items()} | other


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a begun run, its configuration, and where its checkpoint goes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("run_name: one\n")
    config = load_config(tmp_path / "c.yaml", FinetuneConfig)
    run = Run(config)
    run.start()
    (run.dir / "checkpoints").mkdir()
    return run


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: torch.save(empty_checkpoint(epoch=Malicious()), path), "loaded safely"),
        (lambda path: torch.save(Malicious(), path), "loaded safely"),
        (lambda path: path.write_bytes(b""), "loaded safely"),
        (lambda path: path.write_bytes(b"garbage"), "loaded safely"),
        (lambda path: path.write_bytes(os.urandom(5000)), "loaded safely"),
        (
            lambda path: torch.save({"model_state_dict": {}}, path),
            "not the checkpoint of a training .without epoch, global_step",
        ),
        (lambda path: torch.save([1], path), "not the checkpoint of a training"),
        (
            lambda path: torch.save(empty_checkpoint(loops=3), path),
            "not the checkpoint of a training .without loops",
        ),
    ],
)
def test_no_run_goes_on_from_a_strange_checkpoint(run, make, reason):
    path = run.dir / "checkpoints" / "last.ckpt"
    make(path)
    with pytest.raises(
        UserError,
        match=f"one/checkpoints/last.ckpt: .*{reason}.*intact copy there, or delete it",
    ):
        Run(run.config, resume=run.dir)
    assert not (path.parents[4] / "pwned").exists()
    path.unlink()
    assert Run(run.config, resume=run.dir).resume_from is None


def test_a_checkpoint_cut_anywhere_is_refused(run):
    path = run.dir / "checkpoints" / "last.ckpt"
    torch.save(empty_checkpoint(state_dict={"weight": torch.ones(1000)}), path)
    assert Run(run.config, resume=run.dir).resume_from == path
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="last.ckpt"):
            Run(run.config, resume=run.dir)


def test_weights_of_another_model_are_refused(tmp_path):
    path, module = tmp_path / "last.ckpt", nn.Linear(2, 3)
    torch.save(empty_checkpoint(state_dict=module.state_dict()), path)
    load_weights(load_resumable(path), nn.Linear(2, 3), path)
    for other in (
        nn.Linear(3, 3).state_dict(),
        {"weight": torch.ones(3, 2)},
        {"weight": 1, "bias": 2},
        {1: 2},
    ):
        torch.save(empty_checkpoint(state_dict=other), path)
        with pytest.raises(CheckpointError, match="last.ckpt: is of another model .*intact copy"):
            load_weights(load_resumable(path), module, path)
    assert load_resumable(path)["epoch"] == 0


NAMES = {"class_names": ["a", "b"]}


@pytest.mark.parametrize(
    "content",
    [
        [1],
        None,
        {},
        {"hyper_parameters": 3},
        {"hyper_parameters": ["class_names"]},
        {"hyper_parameters": {"class_names": 3}},
        {"hyper_parameters": NAMES, "config": 3},
        {"hyper_parameters": NAMES, "config": None, "state_dict": {1: 2}},
        {"hyper_parameters": NAMES | {"backbone_type": ["x"]}, "config": {}},
        {"hyper_parameters": Malicious()},
        Malicious(),
    ],
    ids=range(11),
)
def test_no_classifier_is_made_of_strange_content(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="x.ckpt: "):
        load_classifier(tmp_path / "x.ckpt")
    assert not (tmp_path / "pwned").exists()
