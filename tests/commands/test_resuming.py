"""An interrupted training goes on to the same end."""

import shutil

import pytest
import torch

from tests.commands.running import run, train_and_stop_after


@pytest.mark.parametrize(
    ("kind", "loading"),
    [
        ("ssl", ["dataset.num_workers=2"]),
        ("finetune", ["dataset.num_workers=0"]),
        pytest.param(
            "original",
            ["dataset.num_workers=2", "dataset.preload=ram"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_resumed_equals_uninterrupted(workplace, separable, kind, loading):
    """Stopped after 2 of 4 epochs and resumed: same weights and metrics as an uninterrupted run."""
    save = "exp_params.model_save_ep_period=1"
    run(kind, separable, f"whole_{kind}", save, cwd=workplace, epochs=4)
    whole = workplace / "runs" / kind / f"whole_{kind}"
    output = train_and_stop_after(kind, separable, workplace, 2, save, *loading)
    assert "interrupted" in output
    stopped = workplace / "runs" / kind / f"stopped_{kind}"
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    run(kind, separable, f"stopped_{kind}", save, *loading, cwd=workplace, epochs=4, resume=stopped)
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (whole, stopped)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert (whole / "metrics.csv").read_text() == (stopped / "metrics.csv").read_text()


def test_other_events_are_not_gone_on_with(tmp_path, separable):
    """With more recordings in the folder, training events could become test events."""
    folder = shutil.copytree(separable, tmp_path / "growing")
    train_and_stop_after("finetune", folder, tmp_path, 1, "exp_params.model_save_ep_period=1")
    stopped = tmp_path / "runs" / "finetune" / "stopped_finetune"
    files = sorted(path for path in folder.rglob("*.mseed") if path.parent.name != "Unlabeled")
    moved = files[0].parent.parent / files[-1].parent.name / "moved.mseed"
    files[0].rename(moved)  # another label
    resume = ("finetune", folder, "stopped_finetune", "exp_params.model_save_ep_period=1")
    output = run(*resume, cwd=tmp_path, epochs=4, resume=stopped, status=2)
    assert "the events or their labels have changed since this run began" in output
    moved.rename(files[0])
    run(*resume, cwd=tmp_path, epochs=4, resume=stopped)
