"""Where events come from: ``dataset.source`` and ``dataset.root`` become an open archive."""

import hashlib
import json
from pathlib import Path

from preprocessing.storage import METADATA, WAVEFORMS, EventArchive
from utils.schema import DatasetParams

DATA_DIR = Path("data")  # of the folder the command is started in
AKNES_ROOT = DATA_DIR / "aknes"


def open_source(dataset: DatasetParams) -> EventArchive:
    """Open the events that the section ``dataset`` of a configuration describes, downloading and packing them where needed.

    A ``root`` that is itself a packed archive is opened as it is. Other archives are packed into ``data/archives``, named
    after source folder and options, so that one set of options never meets the archive of another.
    """
    folder = Path(dataset.root) if dataset.root else AKNES_ROOT
    if (folder / METADATA).is_file() and (folder / WAVEFORMS).is_file():
        return EventArchive(folder)
    from preprocessing.archive import open_or_pack

    if dataset.source == "aknes":
        from preprocessing.download import fetch_aknes

        folder = fetch_aknes(folder)
    options = {"sampling_rate_hz": dataset.sampling_freq, "duration_s": dataset.duration_s, "max_gap_s": dataset.max_gap_s}
    key = hashlib.sha256(json.dumps([str(folder.resolve()), options]).encode()).hexdigest()[:8]
    archive_dir = DATA_DIR / "archives" / f"{folder.resolve().name}-{key}"
    return open_or_pack(folder, archive_dir, skip_unreadable=dataset.skip_unreadable, **options)
