"""Training runs: data, trainer, run folder, reports, grid of runs and its comparison."""
