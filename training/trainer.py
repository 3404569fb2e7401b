"""Build Lightning's Trainer for a run, and fit."""

import logging
import math
import warnings
from typing import Any

import pytorch_lightning as pl
import torch

from preprocessing.data_module import EventDataModule
from training.callbacks import ProgressLines, SeedEveryStep, StopAtDivergence, stoppable
from training.data import against_bf16
from training.devices import choose_devices
from training.loggers import build_loggers
from training.reports import draw_samples
from training.runs import Run
from training.saving import EpochMemory, SaveCheckpoints, require_same_events
from utils.checkpoints import load_weights
from utils.parallel import keep_freed_memory
from utils.precision import choose_precision
from utils.progress import is_terminal
from utils.schema import RunConfig

log = logging.getLogger(__name__)
N_EVALUATIONS = 20  # least number of points in a classifier's curves, with as many epochs


def build_trainer(run: Run, n_epochs: int, reason_against_bf16: str = "") -> pl.Trainer:
    """Build the Trainer of a run, on the CPU (with a log message) if there is no GPU.

    With a ``reason_against_bf16``, precision ``auto`` is float32.
    """
    config, params = run.config, run.config.trainer_params
    _silence_lightning()
    accelerator, devices = choose_devices(params.gpus)
    device = torch.device("cuda", devices[0]) if isinstance(devices, list) else torch.device("cpu")
    if params.gpus and accelerator == "cpu":
        log.info(
            "trainer_params.gpus asks for %s, but there is no GPU: training on the CPU",
            list(params.gpus),
        )
    precision: Any = choose_precision(params.precision, device, reason_against_bf16)
    memory, period = EpochMemory(run), config.exp_params.model_save_ep_period
    has_bar = is_terminal()  # in a log file, each step of a bar would be text of its own
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=params.num_nodes,
        strategy=params.strategy,
        precision=precision,
        max_epochs=n_epochs,
        check_val_every_n_epoch=epochs_between_evaluations(config, n_epochs),
        gradient_clip_val=config.exp_params.gradient_clip_val or None,
        use_distributed_sampler=False,  # EpochBatches divides each batch among processes
        logger=build_loggers(run),
        # the loss is checked before a checkpoint is saved
        callbacks=[
            SeedEveryStep(config.seed),
            StopAtDivergence(),
            SaveCheckpoints(run, period, memory),
            *([] if has_bar else [ProgressLines()]),
        ],
        plugins=[memory],
        default_root_dir=run.dir,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=has_bar,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def epochs_of(config: RunConfig, n_events: int) -> int:
    """Return the epochs of a training on ``n_events`` events.

    They are those of the configuration, or as many as ``min_steps`` needs: then a multiple of
    ``N_EVALUATIONS``, so that the last epoch is evaluated.
    """
    steps = math.ceil(n_events / config.dataset.batch_size)
    least = math.ceil(getattr(config.trainer_params, "min_steps", 0) / steps)
    if least <= config.n_epochs:
        return config.n_epochs
    return math.ceil(least / N_EVALUATIONS) * N_EVALUATIONS


def epochs_between_evaluations(config: RunConfig, n_epochs: int) -> int:
    """Return the number of epochs between two evaluations on events outside of the training.

    A classifier's evaluation uses all channels of the test events, and takes longer than an epoch.
    """
    if wanted := getattr(config.exp_params, "val_ep_period", 1):
        return wanted
    longest = max(1, n_epochs // N_EVALUATIONS)
    return next(n for n in range(longest, 0, -1) if n_epochs % n == 0)  # so the last is one


def _silence_lightning() -> None:
    """Silence messages of Lightning that users cannot act on."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings(
        "ignore", message=".*you have set wandb.*|.*tensorboard.*removed as a dependency.*"
    )
    # frozen encoders are in eval mode on purpose
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*The `srun` command is available.*")


def fit(run: Run, module: pl.LightningModule, data: EventDataModule) -> pl.Trainer:
    """Draw sample events, then train; resume if the run has a checkpoint. Returns the Trainer."""
    if run.resume_from and run.checkpoint:
        load_weights(run.checkpoint, module, run.resume_from)
        require_same_events(run.checkpoint, data, run.resume_from)
    run.start()
    n_epochs = epochs_of(run.config, len(data.train_events))
    trainer = build_trainer(run, n_epochs, against_bf16(run.config, data.archive))
    if trainer.is_global_zero:
        draw_samples(run, module, data)
    if trainer.world_size > 1:
        # the encoder only: the projector gets the whole batch in every process
        encoder = module.get_submodule("encoder")
        module.encoder = torch.nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    keep_freed_memory()
    with stoppable(run):
        trainer.fit(module, datamodule=data, ckpt_path=run.resume_from, weights_only=True)
    return trainer
