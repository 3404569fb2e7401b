"""Devices of a training, and the processes that torchrun or SLURM start on them.

PyTorch is imported only where devices are chosen: entry scripts check the command line before that.
"""

import os

from utils.errors import UserError
from utils.schema import RunConfig

INTERACTIVE_SLURM_JOBS = ("bash", "interactive")  # job names that Lightning takes for a session


def is_first_process() -> bool:
    """Return whether this process has rank 0, or is the only one."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def is_one_of_several() -> bool:
    """Return whether torchrun or SLURM started this process together with others."""
    several = any(int(os.environ.get(name, "1")) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return several and any(name in os.environ for name in ("RANK", "SLURM_PROCID"))


def number_of_launched_processes() -> int | None:
    """Return how many processes torchrun or SLURM started; None if Lightning starts them itself.

    Raises ``UserError`` for several processes in an interactive SLURM session.
    """
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    if os.environ.get("SLURM_JOB_NAME") not in INTERACTIVE_SLURM_JOBS:
        return int(os.environ["SLURM_NTASKS"]) if "SLURM_NTASKS" in os.environ else None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        raise UserError(
            "srun starts several processes only from a batch script; "
            "in an interactive session use torchrun"
        )
    return None


def choose_devices(gpus: tuple[int, ...]) -> tuple[str, list[int] | int]:
    """Return Lightning's accelerator and devices: the GPUs of these numbers, or one CPU process.

    Raises ``UserError`` for a GPU that this machine does not have.
    """
    import torch

    n_gpus = torch.cuda.device_count()
    if not gpus or n_gpus == 0:
        return "cpu", 1
    if max(gpus) >= n_gpus:
        raise UserError(
            f"trainer_params.gpus: found {list(gpus)}, but this machine has GPUs 0 to {n_gpus - 1}"
        )
    return "gpu", list(gpus)


def require_processes(config: RunConfig) -> None:
    """Raise ``UserError`` if the launched processes do not fit the devices or the batch size."""
    params, n_started = config.trainer_params, number_of_launched_processes()
    _, devices = choose_devices(params.gpus)
    if isinstance(devices, int):  # the CPU
        if n_started not in (None, 1):
            raise UserError(
                f"{_found(n_started)}, but on a CPU one process trains, because BatchNorm needs "
                "the whole batch. Start python without a launcher, or give each process a GPU "
                "(trainer_params.gpus)"
            )
        if params.num_nodes > 1:
            raise UserError(
                f"trainer_params.num_nodes: found {params.num_nodes}, "
                "but on a CPU one process trains; set it to 1"
            )
        return
    n_processes = params.num_nodes * len(devices)
    if n_started not in (None, n_processes):
        raise UserError(
            f"{_found(n_started)}, but the configuration is for {n_processes}: trainer_params.gpus "
            f"is {devices}, num_nodes {params.num_nodes}. Start one process per GPU, "
            "or change these two keys"
        )
    if config.dataset.batch_size % n_processes:
        raise UserError(
            f"dataset.batch_size: {config.dataset.batch_size} events cannot be shared evenly "
            f"by {n_processes} processes"
        )


def _found(n_started: int) -> str:
    noun = "process" if n_started == 1 else "processes"
    return f"found {n_started} {noun} started by torchrun or SLURM"
