"""Measure this repository against the published way, in ratios of one run: python -m benchmarks.speed [--rows NAME ...]

Files and archive are simulated events; everything is made in a temporary folder and removed. Timings are the median of a few
rounds in which all ways take turns.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from benchmarks import data_rows, network_rows
from benchmarks.seg2 import FILE_LIKE_AKNES, seg2_bytes
from benchmarks.table import SMALL, Row, Size, Work, to_markdown
from benchmarks.timing import machine
from preprocessing.event_archive import EventArchive
from preprocessing.packing import pack_recordings
from preprocessing.simulate.events import plan_events, simulate_event
from utils.files import write_atomically
from utils.parallel import keep_freed_memory

ROWS: dict[str, Callable[[Work, Path], Iterator[Row]]] = {
    "input": lambda work, folder: data_rows.input_rows(work),
    "ssl_step": lambda work, folder: network_rows.ssl_step_rows(work),
    "supervised_step": lambda work, folder: network_rows.supervised_step_rows(work),
    "image_size": lambda work, folder: network_rows.image_size_rows(work),
    "evaluation": lambda work, folder: network_rows.evaluation_rows(work),
    "share": lambda work, folder: iter([network_rows.share_row(work, folder)]),
    "start": lambda work, folder: data_rows.start_rows(work.size, folder),
    "packing": lambda work, folder: iter([data_rows.packing_row(work, folder)]),
    "memory": lambda work, folder: iter([data_rows.memory_row(work.size, folder)]),
    "linear": lambda work, folder: iter([data_rows.linear_row(work.size, folder)]),
}


def prepare(size: Size, folder: Path) -> Work:
    """Simulate events, write them as SEG-2 files like those of Åknes, and pack these."""
    source = folder / "recordings"
    for number, (category, place) in enumerate(tqdm(plan_events(size.n_events, seed=0), desc="Simulating", unit="event")):
        path = source / category / f"{number:04d}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        waveforms = simulate_event(0, category, place).waveforms
        path.write_bytes(seg2_bytes(waveforms, file_strings=FILE_LIKE_AKNES))
    pack_recordings(source, folder / "archive")
    files = sorted(source.glob("*/*.dat"))
    return Work(size, files, EventArchive(folder / "archive"))


def main() -> None:
    """Read the command line, measure, print the table and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="what to measure (default: everything)")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it works; the numbers mean nothing")
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the commands do
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="aknes-bench-") as name:
        folder, rows = Path(name), []
        work = prepare(SMALL if arguments.small else Size(), folder)
        for measured in arguments.rows:
            for row in ROWS[measured](work, folder):
                rows.append(row)
                tqdm.write(f"{row.what}: {row.published} -> {row.here}: {row.result} (goal {row.goal})")
    table = f"{machine()}\n\n{to_markdown(rows)}\n"
    print(table)
    if arguments.out:
        write_atomically(arguments.out, lambda path: path.write_text(table, encoding="utf-8"))


if __name__ == "__main__":
    main()
