"""What is watched and saved beside the training."""

import logging
from types import SimpleNamespace

import pytest
import torch

from tests.fake_gpu import GPU, fake_gpu
from training.callbacks import ProgressLines, StopAtDivergence
from training.saving import SaveCheckpoints, save_atomically
from utils.errors import UserError

EVENTS = torch.arange(3)


def event_names(events):
    return [str(int(event)) for event in events.cpu()]


def watch_losses(losses, n_steps):
    """Let ``StopAtDivergence`` see the steps of an epoch that has ``n_steps``."""
    watch, data = StopAtDivergence(), SimpleNamespace(event_names=event_names)
    for number, loss in enumerate(losses):
        last = number == n_steps - 1
        trainer = SimpleNamespace(is_last_batch=last, current_epoch=4, datamodule=data)
        batch = SimpleNamespace(events=EVENTS.to(loss.device))
        watch.on_train_batch_end(trainer, None, {"loss": loss}, batch, number)


@pytest.mark.parametrize(("broken", "n_steps"), [(0, 1), (1, 20), (19, 20), (3, 1000)])
def test_a_loss_that_is_not_finite_is_named(broken, n_steps):
    losses = torch.ones(min(n_steps, broken + 8))  # within eight steps, or at the epoch's end
    losses[broken:] = torch.inf
    message = f"epoch 5, step {broken + 1}: the loss is inf; events: 0, 1, 2. Try"
    with pytest.raises(UserError, match=message):
        watch_losses(losses, n_steps)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([2.0] * 9 + [1.1e6], "step 10: the loss is 1.1e\\+06; events"),
        ([2.0] * 9 + [201.0], "step 10: the loss is 201, its recent median 2; events"),
        ([1.9e11], "step 1: the loss is 1.9e\\+11"),
    ],
)
def test_a_finite_but_absurd_loss_stops_the_training(losses, message):
    with pytest.raises(UserError, match=message):
        watch_losses(torch.tensor(losses), n_steps=len(losses))


@pytest.mark.parametrize("losses", [[2.0] * 9 + [199.0], [1e-4] * 30 + [99.0], [9e5] * 20])
def test_a_hard_batch_does_not_stop_the_training(losses):
    watch_losses(torch.tensor(losses), n_steps=len(losses))


@pytest.mark.parametrize("loss", [torch.nan, torch.inf, 1.9e11])
def test_a_validation_loss_that_says_nothing_stops_the_training(loss):
    trainer = SimpleNamespace(
        callback_metrics={"val/loss": torch.tensor(loss)}, current_epoch=4, datamodule=None
    )
    with pytest.raises(UserError, match="epoch 5, held-out events: the loss is .*Try a lower LR"):
        StopAtDivergence().on_validation_epoch_end(trainer, None)
    trainer.callback_metrics["val/loss"] = torch.tensor(3.0)
    StopAtDivergence().on_validation_epoch_end(trainer, None)


def test_finite_losses_pass_and_a_gpu_seldom_waits():
    watch_losses(torch.ones(20), n_steps=20)
    with fake_gpu() as gpu:
        watch_losses(torch.ones(20, device=GPU), n_steps=20)
        assert len(gpu.waits) == 3  # after 8, 16 and 20 steps


def test_what_cannot_be_saved_does_not_hide_why_the_run_stopped(tmp_path, caplog):
    def write(path):
        raise RuntimeError("CUDA error: the GPU has fallen off the bus")

    memory = SimpleNamespace(newest={}, write=write)
    saving = SaveCheckpoints(SimpleNamespace(dir=tmp_path), 1, memory)
    saving.is_new = True
    saving.on_exception(None, None, KeyboardInterrupt())
    assert "fallen off the bus" in caplog.text


def test_files_open_without_a_gpu(tmp_path):
    """``tests.fake_gpu`` refuses to save tensors of a GPU."""
    with fake_gpu():
        save_atomically({"weights": [torch.ones(3, device=GPU)]}, tmp_path / "weights.ckpt")
    content = torch.load(tmp_path / "weights.ckpt", weights_only=True)
    assert content["weights"][0].shape == (3,)


def test_a_training_logs_a_line_a_minute(monkeypatch, caplog):
    now = [50.0]
    monkeypatch.setattr("training.callbacks.time.monotonic", lambda: now[0])
    trainer = SimpleNamespace(
        is_global_zero=True, current_epoch=2, max_epochs=9, num_training_batches=40
    )
    lines = ProgressLines()
    with caplog.at_level(logging.INFO):
        lines.on_train_start(trainer, None)
        for step in range(40):  # two minutes
            now[0] += 3
            lines.on_train_batch_end(trainer, None, {"loss": torch.tensor(0.5)}, None, step)
    assert caplog.messages == [
        "Epoch 3 of 9, step 20 of 40, loss 0.5, after 1 min",
        "Epoch 3 of 9, step 40 of 40, loss 0.5, after 2 min",
    ]
