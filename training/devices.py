"""The GPUs or the CPU that a training uses, and how many processes that takes."""

import os

import torch

from utils.errors import UserError
from utils.schema import RunConfig


def choose_devices(gpus: tuple[int, ...]) -> tuple[str, list[int] | int]:
    n_gpus = torch.cuda.device_count()
    if not gpus or n_gpus == 0:
        return "cpu", 1
    if max(gpus) >= n_gpus:
        raise UserError(
            f"trainer_params.gpus: found {list(gpus)}, but this machine has GPUs 0 to {n_gpus - 1}"
        )
    return "gpu", list(gpus)


def require_processes(config: RunConfig) -> None:
    """Raise ``UserError`` unless as many processes were started as train together, each with its share of a batch."""
    params, n_started = config.trainer_params, _n_started()
    accelerator, devices = choose_devices(params.gpus)
    if accelerator == "cpu":
        if n_started not in (None, 1):
            raise UserError(
                f"{_found(n_started)}, but on a CPU one process trains, because BatchNorm needs the whole batch. "
                "Start python alone, or give each process a GPU (trainer_params.gpus)"
            )
        if params.num_nodes > 1:
            raise UserError(
                f"trainer_params.num_nodes: found {params.num_nodes}, but on a CPU one process trains; set it to 1"
            )
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
    if os.environ.get("SLURM_JOB_NAME") not in (
        "bash",
        "interactive",
    ):  # the names by which Lightning knows a session
        return int(os.environ["SLURM_NTASKS"]) if "SLURM_NTASKS" in os.environ else None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        raise UserError(
            "srun starts several processes only from a batch script; in an interactive session use torchrun"
        )
    return None
