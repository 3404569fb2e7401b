"""Colours of figures, and writing them as PNG files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.files import atomic

BLUE, ORANGE, GREY = "#1f5c99", "#d9822b", "#9aa5b1"


@contextmanager
def picture(path: Path, size_inches: tuple[float, float], is_placed: bool = False) -> Iterator[Any]:
    """Give a new matplotlib figure to draw on; write it as PNG when the block has ended.

    matplotlib chooses the places of the panels, unless the block does (``is_placed``). After an
    error in the block nothing is written. Raises ``UserError`` if the file cannot be written.

        with picture(path, (9, 4)) as figure:
            figure.add_subplot().plot(values)
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, layout=None if is_placed else "constrained")
    yield figure
    # a third of the default's effort gives files as small
    png = {"compress_level": 3}
    with atomic(path) as partial:
        figure.savefig(partial, format="png", dpi=130, pil_kwargs=png)
