"""Colours of figures, and writing them as PNG files."""

from collections.abc import Callable
from pathlib import Path

from utils.files import write_atomically

BLUE, ORANGE, GREY = "#1f5c99", "#d9822b", "#9aa5b1"


def save_figure(
    path: Path, size_inches: tuple[float, float], draw: Callable, is_placed: bool = False
) -> Path:
    """Call ``draw(figure)`` on a new matplotlib figure and write it to ``path`` as PNG.

    matplotlib chooses the places of the panels, unless ``draw`` has done so (``is_placed``).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, layout=None if is_placed else "constrained")
    draw(figure)
    # a third of the default's effort gives files as small
    png = {"compress_level": 3}
    write_atomically(
        path, lambda partial: figure.savefig(partial, format="png", dpi=130, pil_kwargs=png)
    )
    return path
