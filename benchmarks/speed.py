"""Compare the speed with the published implementation: python -m benchmarks.speed

By default rows that end within minutes on any machine, with small batches; --rows NAME ... and
--all measure at the paper's sizes. Files and archive hold simulated events in a temporary folder.
Timings are medians of a few rounds in which the compared implementations run in turn.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import command_rows, network_rows
from benchmarks.seg2 import FILE_LIKE_AKNES, seg2_bytes
from benchmarks.timing import Row, parse, report
from benchmarks.work import PAPER, QUICK, SMALL, Size, Work
from preprocessing.event_archive import EventArchive
from preprocessing.packing import pack_recordings
from preprocessing.simulate.simulated_archive import plan_events, simulate_event
from utils.parallel import map_in_order
from utils.precision import has_bf16

ROWS: dict[str, Callable[[Work, Path, str], Iterator[Row]]] = {
    "input": lambda work, folder, against: network_rows.input_rows(work),
    "ssl_step": lambda work, folder, against: network_rows.ssl_step_rows(work),
    "supervised_step": lambda work, folder, against: network_rows.supervised_step_rows(work),
    "evaluation": lambda work, folder, against: network_rows.evaluation_rows(work),
    "compact": lambda work, folder, against: network_rows.compact_rows(work),
    "packing": lambda work, folder, against: iter([command_rows.packing_row(work, folder)]),
    "prediction": lambda work, folder, against: iter(
        [command_rows.prediction_row(work, folder, against)]
    ),
    "continuous": lambda work, folder, against: iter(
        [command_rows.continuous_row(work.size, folder)]
    ),
    "memory": lambda work, folder, against: iter([command_rows.memory_row(work.size, folder)]),
}
LONG = ("memory",)  # measured only with --rows or --all


def _write_event(event: tuple[int, tuple[str, int]], source: Path) -> None:
    number, (category, place) = event
    path = source / category / f"{number:04d}.dat"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        seg2_bytes(simulate_event(0, category, place).waveforms, file_strings=FILE_LIKE_AKNES),
    )


def prepare(size: Size, folder: Path) -> Work:
    """Simulate events, write them as SEG-2 files like those of Åknes, and pack these."""
    source = folder / "recordings"
    events = list(enumerate(plan_events(size.n_events, seed=0)))
    for _ in map_in_order(partial(_write_event, source=source), events):
        pass
    pack_recordings(source, folder / "archive")
    return Work(size, sorted(source.glob("*/*.dat")), EventArchive(folder / "archive"))


def measure(names: Sequence[str], size: Size, against: str) -> Iterator[Row]:
    """Measure the named rows; yield each as soon as it is measured."""
    with tempfile.TemporaryDirectory(prefix="aknes-bench-") as name:
        folder = Path(name)
        print(f"Simulating {size.n_events} events", flush=True)
        work = prepare(size, folder)
        for measured in names:
            print(f"Measuring {measured}", flush=True)
            yield from ROWS[measured](work, folder, against)


def main() -> None:
    """Parse the command line, measure, print the table and write it to --out."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        help="measure these, at the paper's sizes",
    )
    which.add_argument(
        "--all",
        action="store_true",
        help="measure everything, at the paper's sizes",
    )
    parser.add_argument(
        "--against",
        default=command_rows.EARLIER_COMMIT,
        metavar="COMMIT",
        help="with which commit the row prediction compares (default: %(default)s)",
    )
    arguments = parse(parser)
    names = arguments.rows or [name for name in ROWS if arguments.all or name not in LONG]
    size = PAPER if arguments.rows or arguments.all else QUICK
    if not has_bf16(network_rows.CPU):
        print(
            "This CPU has no bf16 units: all rows are measured in float32.",
            flush=True,
        )
    size = SMALL if arguments.small else size
    report(measure(names, size, arguments.against), arguments.out)


if __name__ == "__main__":
    main()
