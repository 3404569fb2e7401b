"""Figures: colours, and drawing to a PNG file."""

from collections.abc import Callable
from pathlib import Path

from utils.files import write_atomically

BLUE, ORANGE, GREY = "#1f5c99", "#d9822b", "#9aa5b1"


def save_figure(path: Path, size_inches: tuple[float, float], draw: Callable, **layout) -> Path:
    """Draw on a fresh figure (no global pyplot state) and write it as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, layout="constrained", **layout)
    draw(figure)
    write_atomically(path, lambda partial: figure.savefig(partial, format="png", dpi=130))
    return path
