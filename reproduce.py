"""Run the paper's grid of trainings and compare them.

python reproduce.py --config configs/reproduce.yaml [key.path=value ...]
"""

import logging

from training.grid.cells import plan_cells
from training.grid.grid_config import ReproduceConfig
from training.grid.queue import run_cells
from training.runs import RUNS_DIR
from utils.cli import main, parse_arguments, stop_at_signals
from utils.config import load_config

log = logging.getLogger(__name__)


def reproduce() -> None:
    """Read the configuration, run the cells that are not finished, compare all."""
    arguments = parse_arguments(__doc__, "--config", "configs/reproduce.yaml", resumable=False)
    grid = load_config(arguments.config, ReproduceConfig, arguments.overrides)

    from training.grid.comparison import write_comparison
    from training.grid.results import read_result

    folder = RUNS_DIR / "reproduce" / grid.name
    pretraining, compared = plan_cells(grid)
    stop_at_signals("its trainings are stopped; the same command goes on with them")
    run_cells([*pretraining, *compared], grid.gpus, folder / "logs")
    command = " ".join(["python reproduce.py --config", arguments.config, *arguments.overrides])
    log.info("%s", write_comparison([read_result(cell) for cell in compared], folder, command))
    log.info("Table and plot: %s", folder)


if __name__ == "__main__":
    main(reproduce)
