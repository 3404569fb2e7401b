"""What torchrun and SLURM say about this process in its environment.

Does not import PyTorch: entry scripts check the command line before that import, which is slow.
"""

import os

from utils.errors import UserError

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
