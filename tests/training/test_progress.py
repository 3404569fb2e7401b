import logging
from types import SimpleNamespace

import torch

from training.progress import ProgressLines


def test_a_training_logs_a_line_a_minute(monkeypatch, caplog):
    now = [50.0]
    monkeypatch.setattr("training.progress.time.monotonic", lambda: now[0])
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
