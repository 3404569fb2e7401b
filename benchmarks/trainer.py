"""A Trainer for benchmarks."""

from typing import Final

import pytorch_lightning as pl
import torch

BF16: Final = "bf16-mixed"


def quiet_trainer(n_epochs: int, device: torch.device, precision: str, **options) -> pl.Trainer:
    """Build a Trainer like that of the commands, but without files and messages."""
    return pl.Trainer(
        max_epochs=n_epochs,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=BF16 if precision == BF16 else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )
