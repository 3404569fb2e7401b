"""Devices of a training, and the number of processes they need."""

import torch

from utils.errors import UserError
from utils.launchers import number_of_launched_processes
from utils.schema import RunConfig


def choose_devices(gpus: tuple[int, ...]) -> tuple[str, list[int] | int]:
    """Return Lightning's accelerator and devices: the GPUs of these numbers, or one CPU process.

    Raises ``UserError`` for a GPU that this machine does not have.
    """
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
