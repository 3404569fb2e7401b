"""Look at recordings before training: what is in them, what packing would do, what to set."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from preprocessing.check.advice import advise, common_rate_hz
from preprocessing.check.examples import Example, choose_examples, clear_channel, draw_examples
from preprocessing.check.measure import MeasuredEvent, measure_archive, measure_files, not_read
from preprocessing.check.report import write_report
from preprocessing.event_archive import EventArchive
from preprocessing.recording_folder import RecordingFolder
from preprocessing.recordings import read_recording
from preprocessing.sources import is_packed
from utils import cli
from utils.files import atomic
from utils.progress import progress_bar

REPORT, PICTURE = "check.txt", "examples.png"


def main(arguments: list[str] | None = None) -> None:
    """Run the command ``python -m preprocessing.check``."""
    parser = argparse.ArgumentParser(prog="python -m preprocessing.check", description=__doc__)
    parser.add_argument(
        "place",
        metavar="FOLDER|ARCHIVE",
        type=Path,
        help="a folder of recordings, one folder per class, or a packed archive",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"also write the report ({REPORT}) and a page of examples ({PICTURE})",
    )
    options = parser.parse_args(arguments)
    cli.main(partial(check, options.place, options.output))


def check(place: Path, output: Path | None) -> None:
    """Print the report on a folder or an archive; with ``output``, write it and the examples."""
    archive = EventArchive(place) if is_packed(place, "folder") else None
    files = [] if archive else RecordingFolder(place).list_events()
    measured = measure_archive(archive) if archive else measure_files(files)
    n_events = len(archive) if archive else len(files)
    events = list(progress_bar(measured, total=n_events, desc="Checking", unit="event"))
    ignored = [] if archive else list(not_read(place))
    report = write_report(str(place), events, archive is not None, ignored)
    sys.stdout.write(report)
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    with atomic(output / REPORT) as partial:
        partial.write_text(report, encoding="utf-8")
    advice = advise(events, archive is not None)
    if advice:
        paths = [file.place for file in files]
        examples = dict(_read_examples(events, paths, archive))
        nperseg, highpass_hz = int(str(advice["nperseg"][0])), None
        if "highpass_hz" in advice:
            highpass_hz = float(str(advice["highpass_hz"][0]))
        draw_examples(examples, nperseg, highpass_hz, output / PICTURE)


def _read_examples(
    events: Sequence[MeasuredEvent], files: Sequence[Path], archive: EventArchive | None
) -> Iterator[tuple[str, list[Example]]]:
    """Yield each class with its examples, at the archive's rate or the advised one."""
    rate_hz = common_rate_hz(events)
    for name, chosen in choose_examples(events).items():
        examples = []
        for index in chosen:
            event, channel = events[index], clear_channel(events[index])
            if archive:
                names, waveforms = archive.channels(index), archive.waveforms(index)
            else:
                recording = read_recording(files[index], rate_hz)
                names, waveforms = recording.channels, recording.waveforms
            row = names.index(channel) if channel in names else 0
            title = f"{event.name.removeprefix(f'{name}/')}: {names[row]}"
            examples.append(Example(title, np.ascontiguousarray(waveforms[row]), rate_hz))
        yield name, examples


if __name__ == "__main__":
    main()
