"""Lightning's Trainer as every training here uses it: loggers, checkpoints, devices, progress."""

import logging
import os
import warnings

import pytorch_lightning as pl
import torch

from utils.callbacks import EpochMemory, SaveCheckpoints, SeedEveryStep, StopAtNonFiniteLoss
from utils.errors import UserError
from utils.loggers import build_loggers
from utils.runs import Run
from utils.schema import RunConfig

log = logging.getLogger(__name__)


def build_trainer(run: Run) -> pl.Trainer:
    """Build the Trainer of a run; says so once when it falls back to the CPU."""
    config, params = run.config, run.config.trainer_params
    _quiet()
    accelerator, devices = _devices(params.gpus)
    if params.gpus and accelerator == "cpu":
        log.info("trainer_params.gpus asks for %s, but there is no GPU: training on the CPU", list(params.gpus))
    memory, period = EpochMemory(), config.exp_params.model_save_ep_period
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=params.num_nodes,
        strategy=params.strategy,
        precision=params.precision,
        max_epochs=params.max_epochs,
        gradient_clip_val=config.exp_params.gradient_clip_val or None,
        use_distributed_sampler=False,  # EpochBatches shares out every batch itself
        logger=build_loggers(run),
        # in this order: an epoch with a loss that is not finite is never saved
        callbacks=[SeedEveryStep(config.seed), StopAtNonFiniteLoss(), SaveCheckpoints(run, period, memory)],
        plugins=[memory],
        default_root_dir=run.dir,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _devices(gpus: tuple[int, ...]) -> tuple[str, list[int] | int]:
    n_gpus = torch.cuda.device_count()
    if not gpus or n_gpus == 0:
        return "cpu", 1
    if max(gpus) >= n_gpus:
        raise UserError(f"trainer_params.gpus: found {list(gpus)}, but this machine has GPUs 0 to {n_gpus - 1}")
    return "gpu", list(gpus)


def require_processes(config: RunConfig) -> None:
    """Raise ``UserError`` unless as many processes were started as train together, each with its share of a batch."""
    params, n_started = config.trainer_params, _n_started()
    accelerator, devices = _devices(params.gpus)
    if accelerator == "cpu":
        if n_started not in (None, 1):
            raise UserError(
                f"{_found(n_started)}, but on a CPU one process trains, because BatchNorm needs the whole batch. "
                "Start python alone, or give each process a GPU (trainer_params.gpus)"
            )
        if params.num_nodes > 1:
            raise UserError(f"trainer_params.num_nodes: found {params.num_nodes}, but on a CPU one process trains; set it to 1")
        return
    n_processes = params.num_nodes * len(devices)
    if n_started not in (None, n_processes):
        raise UserError(
            f"{_found(n_started)}, but the configuration is for {n_processes}: trainer_params.gpus is {devices}, "
            f"num_nodes {params.num_nodes}. Start one for each GPU, or set these two to what you start"
        )
    if config.dataset.batch_size % n_processes:
        raise UserError(
            f"dataset.batch_size: {config.dataset.batch_size} events cannot be shared evenly by {n_processes} processes"
        )


def _found(n_started: int) -> str:
    return f"found {n_started} {'process' if n_started == 1 else 'processes'} started by torchrun or SLURM"


def _n_started() -> int | None:
    """Return how many processes torchrun or SLURM has started; None where Lightning starts what is missing."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    if os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # the names by which Lightning knows a session
        return int(os.environ["SLURM_NTASKS"]) if "SLURM_NTASKS" in os.environ else None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        raise UserError("srun starts several processes only from a batch script; in an interactive session use torchrun")
    return None


def _quiet() -> None:
    """Silence what Lightning says of every run and a user can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*you have set wandb.*|.*tensorboard.*removed as a dependency.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen on purpose
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*The `srun` command is available.*")
