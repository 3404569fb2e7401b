"""Lightning's Trainer as every training here uses it: loggers, checkpoints, devices, progress."""

import logging
import warnings

import pytorch_lightning as pl
import torch

from preprocessing.dataset import EventDataModule
from training.callbacks import (
    EpochMemory,
    SaveCheckpoints,
    SeedEveryStep,
    StopAtNonFiniteLoss,
    stoppable,
)
from training.data import against_bf16
from training.devices import choose_devices
from training.loggers import build_loggers
from training.reports import draw_samples
from training.runs import Run
from utils.checkpoints import require_fitting
from utils.precision import choose_precision

log = logging.getLogger(__name__)


def build_trainer(run: Run, reason_against_bf16: str = "") -> pl.Trainer:
    """Build the Trainer of a run; says so once when it falls back to the CPU.

    With a ``reason_against_bf16``, precision ``auto`` is float32.
    """
    config, params = run.config, run.config.trainer_params
    _quiet()
    accelerator, devices = choose_devices(params.gpus)
    device = torch.device("cuda", devices[0]) if accelerator == "gpu" else torch.device("cpu")
    if params.gpus and accelerator == "cpu":
        log.info(
            "trainer_params.gpus asks for %s, but there is no GPU: training on the CPU",
            list(params.gpus),
        )
    memory, period = EpochMemory(), config.exp_params.model_save_ep_period
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=params.num_nodes,
        strategy=params.strategy,
        precision=choose_precision(params.precision, device, reason_against_bf16),
        max_epochs=params.max_epochs,
        gradient_clip_val=config.exp_params.gradient_clip_val or None,
        use_distributed_sampler=False,  # EpochBatches shares out every batch itself
        logger=build_loggers(run),
        # in this order: an epoch with a loss that is not finite is never saved
        callbacks=[
            SeedEveryStep(config.seed),
            StopAtNonFiniteLoss(),
            SaveCheckpoints(run, period, memory),
        ],
        plugins=[memory],
        default_root_dir=run.dir,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _quiet() -> None:
    """Silence what Lightning says of every run and a user can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings(
        "ignore", message=".*you have set wandb.*|.*tensorboard.*removed as a dependency.*"
    )
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # frozen on purpose
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*The `srun` command is available.*")


def fit(run: Run, module: pl.LightningModule, data: EventDataModule) -> pl.Trainer:
    """Train; draw sample events before and loss curves after."""
    if run.resume_from:
        require_fitting(run.resume_from, module)
    run.start()
    trainer = build_trainer(run, against_bf16(run.config, data.archive))
    if trainer.is_global_zero:
        draw_samples(run, module, data)
    if trainer.world_size > 1:
        # not the projector's: it sees the whole batch in every process
        module.encoder = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module.encoder)
    with stoppable(run):
        trainer.fit(module, datamodule=data, ckpt_path=run.resume_from, weights_only=True)
    return trainer
