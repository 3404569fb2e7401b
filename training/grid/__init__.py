"""Grids of trainings: cells, their runs side by side, results, comparison."""
