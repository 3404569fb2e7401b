"""Open the event archive that ``dataset.source`` and ``dataset.root`` describe."""

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocessing.event_archive import (
    METADATA,
    WAVEFORMS,
    ArchiveError,
    EventArchive,
    column_names,
)
from utils.dataset_sections import DatasetParams

if TYPE_CHECKING:  # training from a packed archive needs no ObsPy
    from preprocessing.recording_folder import EventSource

DATA_DIR = Path("data")  # relative to the working directory
AKNES_ROOT = DATA_DIR / "aknes"
MIN_SIMULATED_PER_CLASS = 4  # fewer cannot be split into training and test events
log = logging.getLogger(__name__)


def open_source(dataset: DatasetParams) -> EventArchive:
    """Open the archive for the section ``dataset`` of a configuration.

    A ``root`` that is itself a packed archive is opened directly. Otherwise recordings are
    downloaded (source ``aknes``), packed or simulated first if necessary, into a folder of
    ``data/archives`` whose name depends on source folder and options. Raises ``ArchiveError``, and
    ``SourceError`` if the download fails.
    """
    if dataset.source == "simulated":
        return _open_or_simulate(dataset)
    folder = Path(dataset.root) if dataset.root else AKNES_ROOT
    if is_packed(folder, dataset.source):
        return _require_wanted(EventArchive(folder), dataset)
    from preprocessing.packing import open_or_pack

    if dataset.source == "aknes":
        from preprocessing.download import fetch_aknes

        folder = fetch_aknes(folder)
    options: dict[str, Any] = {
        "sampling_rate_hz": dataset.sampling_freq,
        "duration_s": dataset.duration_s,
        "max_gap_s": dataset.max_gap_s,
    }
    source = _source_of(dataset, folder)
    identity = [str(folder.resolve()), options | source.options]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
    archive_dir = DATA_DIR / "archives" / f"{folder.resolve().name}-{key}"
    return open_or_pack(source, archive_dir, skip_unreadable=dataset.skip_unreadable, **options)


def is_packed(folder: Path, source: str) -> bool:
    """Check whether a folder is an event archive; one of another program is none.

    SeisBench's datasets have files of the same names but other columns. Raises ``ArchiveError``
    for such a dataset if ``source`` is another.
    """
    if not ((folder / METADATA).is_file() and (folder / WAVEFORMS).is_file()):
        return False
    columns = column_names(folder)
    if columns & {"trace_crc32", "trace_live_channels"} or "trace_name" not in columns:
        return True  # perhaps a damaged one, which will say so
    if source != "seisbench":
        raise ArchiveError(
            f"{folder}: a SeisBench dataset, not an event archive; set dataset.source to seisbench"
        )
    return False


def _source_of(dataset: DatasetParams, folder: Path) -> "EventSource":
    if dataset.source != "seisbench":
        from preprocessing.recording_folder import RecordingFolder

        return RecordingFolder(folder)
    from preprocessing.seisbench_dataset import SeisBenchDataset

    return SeisBenchDataset(folder, dataset.label_column, dataset.group_by)


def _require_wanted(archive: EventArchive, dataset: DatasetParams) -> EventArchive:
    """Return the archive if its sampling rate and length agree with the configuration.

    Raises ``ArchiveError`` if they differ, and for keys that only matter while packing.
    """
    for key in ("max_gap_s", "skip_unreadable", "label_column", "group_by"):
        if getattr(dataset, key):
            raise ArchiveError(
                f"dataset.{key}: has no meaning for the packed archive {archive.archive_dir}; "
                "remove the key"
            )
    found = {
        "sampling_freq": archive.sampling_rate_hz,
        "duration_s": archive.n_samples / archive.sampling_rate_hz,
    }
    for key, value in found.items():
        wanted = getattr(dataset, key)
        if wanted is not None and abs(wanted - value) > 1e-6 * value:
            raise ArchiveError(
                f"dataset.{key}: found {wanted:g}, but the packed archive "
                f"{archive.archive_dir} has {value:g}"
            )
    return archive


def _open_or_simulate(dataset: DatasetParams) -> EventArchive:
    """Open the archive of simulated events; simulate it first if it is missing.

    Its class frequencies are those of the Åknes archive, scaled to ``n_simulated`` events.
    """
    from preprocessing.archive_writer import one_process_at_a_time
    from preprocessing.simulate.ranges import CLASS_COUNTS
    from preprocessing.simulate.simulated_archive import simulate_archive

    n_real, seed = sum(CLASS_COUNTS.values()), dataset.simulation_seed or 0
    n_events = dataset.n_simulated or n_real
    counts = {
        name: max(MIN_SIMULATED_PER_CLASS, round(n * n_events / n_real))
        for name, n in CLASS_COUNTS.items()
    }
    archive_dir = DATA_DIR / "archives" / f"simulated-{n_events}-seed{seed}"
    with one_process_at_a_time(archive_dir):
        if not archive_dir.exists():
            log.info("Simulating %d events into %s", sum(counts.values()), archive_dir)
            simulate_archive(archive_dir, None, seed, class_counts=counts)
    return EventArchive(archive_dir)
