"""Simulate events of a network like the one at Åknes."""

import argparse
from functools import partial
from pathlib import Path

from preprocessing.simulate.ranges import CLASS_COUNTS
from preprocessing.simulate.simulated_archive import simulate_archive
from utils import cli


def main(arguments: list[str] | None = None) -> None:
    """Run the command ``python -m preprocessing.simulate``."""
    cli.main(partial(_simulate, _parse(arguments)))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m preprocessing.simulate", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write an event archive here")
    parser.add_argument(
        "--events",
        type=int,
        metavar="N",
        help="number of events (default: as in the recorded archive, 3429)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="same seed, same events (default: 0)"
    )
    parser.add_argument(
        "--gallery", type=Path, metavar="FILE.png", help="draw one typical event per class"
    )
    parser.add_argument(
        "--real", type=Path, metavar="FILE.dat", help="a recorded event to draw above them"
    )
    options = parser.parse_args(arguments)
    if options.out is None and options.gallery is None:
        parser.error("nothing to do: give --out DIR, --gallery FILE.png, or both")
    if options.real is not None and options.gallery is None:
        parser.error("--real is drawn into a gallery: give --gallery FILE.png too")
    return options


def _simulate(options: argparse.Namespace) -> None:
    if options.gallery is not None:
        from preprocessing.simulate.gallery import draw_gallery

        draw_gallery(options.gallery, options.seed, options.real)
    if options.out is not None:
        counts = CLASS_COUNTS if options.events is None else None
        n_events = simulate_archive(options.out, options.events, options.seed, class_counts=counts)
        print(f"{n_events} simulated events in {options.out}")


if __name__ == "__main__":
    main()
