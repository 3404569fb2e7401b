"""Classify files or continuous recordings into a table of events; a killed run can be resumed."""

import logging
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from prediction.continuous import ContinuousData
from prediction.outputs import EventWriter, Outputs
from prediction.predictor import Predictor
from prediction.reading import Item, file_key, read_item
from prediction.trigger import find_events
from utils.errors import UserError
from utils.parallel import ahead, map_in_order

log = logging.getLogger(__name__)
EVENTS_PER_BATCH = 16
MAX_SERIAL_FILES = 32  # starting processes costs more than reading these


def predict_files(
    predictor: Predictor, paths: Sequence[str], outputs: Outputs, strict: bool
) -> int:
    """Classify recordings, one event per file; return the number of unusable files.

    With ``strict``, the first unusable file raises ``UserError``.
    """
    files = list_files(paths, outputs)
    groups = [files[i : i + EVENTS_PER_BATCH] for i in range(0, len(files), EVENTS_PER_BATCH)]
    with EventWriter(predictor, outputs) as writer:
        # whole batches, so that a resumed run computes what the first would have
        todo = [group for group in groups if not writer.done.issuperset(map(file_key, group))]
        read = partial(
            read_item,
            rate_hz=predictor.rate_hz,
            n_samples=predictor.n_samples,
            max_gap_s=predictor.config.max_gap_s,
        )
        wanted = [file for group in todo for file in group]
        recordings = map_in_order(read, wanted, max_serial=MAX_SERIAL_FILES)
        with closing(ahead(recordings, EVENTS_PER_BATCH)) as items:
            for group in tqdm(todo, desc="Predicting", unit="batch"):
                batch = [next(items) for _ in group]
                broken = next((item for item in batch if item.recording is None), None)
                if strict and broken:
                    raise UserError(f"{broken.file}: {broken.reason}")
                writer.write(predictor.classify(batch))
    return writer.finish()


def predict_continuous(
    predictor: Predictor, paths: Sequence[str], outputs: Outputs, strict: bool
) -> int:
    """Find events in continuous recordings and classify them; return the number of unusable files.

    With ``strict``, an unusable file raises ``UserError``.
    """
    config = predictor.config
    data = ContinuousData(list_files(paths, outputs))
    source = ", ".join(paths[:3])
    with EventWriter(predictor, outputs) as writer:
        known = sorted(_time_ns(key) for key in writer.done if key.endswith("Z"))
        chunks = find_events(
            data,
            config.trigger,
            config.chunk_s,
            predictor.pre_trigger_s,
            predictor.duration_s,
            predictor.rate_hz,
            config.max_gap_s,
            known,
        )
        for windows in ahead(chunks):
            items = [
                Item(time, source, w.recording, w.reason, time)
                for w in windows
                for time in [_utc(w.trigger_ns)]
            ]
            for start in range(0, len(items), EVENTS_PER_BATCH):
                batch = items[start : start + EVENTS_PER_BATCH]
                if not writer.done.issuperset(item.key for item in batch):
                    writer.write(predictor.classify(batch))
            if strict and data.unusable:
                break
        for path, reason in data.unusable.items():
            if strict:
                raise UserError(f"{path}: {reason}")
            if file_key(path) not in writer.done:
                writer.write(predictor.classify([Item(file_key(path), str(path), None, reason)]))
    return writer.finish((data.start_ns, data.end_ns))


def list_files(paths: Sequence[str], outputs: Outputs) -> list[Path]:
    """List the given files and the files in given folders, in order, each once.

    Hidden files and ``outputs`` are left out. Raises ``UserError`` for missing paths, and if there
    are no files.
    """
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.is_file())
            found = [
                file
                for file in inside
                if not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
        elif path.is_file():
            found = [path]
        else:
            raise UserError(f"{path}: no such file or folder")
        for file in found:
            if not outputs.holds(file):
                files.setdefault(file_key(file), file)
    if not files:
        raise UserError(f"{', '.join(paths)}: no recordings found")
    return list(files.values())


def _utc(time_ns: int) -> str:
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[us]')}Z"


def _time_ns(utc: str) -> int:
    return int(np.datetime64(utc[:-1], "ns").astype(np.int64))
