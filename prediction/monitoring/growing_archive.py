"""An SDS archive to which data are added while it is read."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prediction.continuous.continuous_data import WholeFile, index_file, read_window
from prediction.continuous.miniseed import Records
from prediction.continuous.sds import BORDER_NS, DAY_NS, SdsArchive, day_of
from preprocessing.traces import RecordingError

LATE_NS = DAY_NS  # data that arrive later than this are not looked for


class Arrival(NamedTuple):
    """Records of one channel that were found by ``GrowingArchive.update``."""

    channel: str
    start_ns: np.ndarray  # (R,)
    end_ns: np.ndarray  # (R,), when the next sample is due
    is_new: np.ndarray  # (R,) False for those that were known before


class GrowingArchive(SdsArchive):
    """An SDS archive to which data are added while it is read; ``update`` looks for them.

    ``sizes`` are the bytes of each file (a path relative to ``root``) that an earlier process knew;
    None: what is there at first is known.
    """

    def __init__(self, *arguments: Any, sizes: dict[str, int] | None = None):
        super().__init__(*arguments)
        self._known = sizes
        self._first = True

    def read(self, start_ns: int, end_ns: int) -> Any:
        """Return an ObsPy stream of what ``update`` has found."""
        return read_window(list(self.files.values()), start_ns, end_ns, self._note)

    def update(self, until_ns: int) -> list[Arrival]:
        """Index what was added to the files around ``until_ns``, the time up to which was searched.

        These are the files from ``LATE_NS`` before it to the next day with data, so that the
        index stays small however long the archive is.
        """
        first, today = (until_ns - LATE_NS - BORDER_NS) // DAY_NS, until_ns // DAY_NS
        self.forget_before(first)
        paths = [(day_of(path.name), path) for path in self.paths(first)]
        last = min((day for day, _ in paths if day > today), default=today)
        arrivals = []
        for day, path in paths:
            if day > last:
                break
            try:
                arrivals += self._update(path)
            except (RecordingError, OSError) as error:
                self.unusable[path] = str(error)  # perhaps just being written: tried again
            else:
                self.unusable.pop(path, None)
                damage = getattr(self.files.get(path), "damage", "")
                if damage:
                    self.unusable[path] = damage
        self._first = False
        return arrivals

    def _update(self, path: Path) -> list[Arrival]:
        before = self.files.get(path)
        now = _reindexed(path, before)
        if now is before:
            return []
        self.files[path] = now
        channel = ".".join(path.name.split(".")[:4])
        start_ns, end_ns = np.atleast_1d(now.start_ns), np.atleast_1d(now.end_ns)
        if isinstance(now, Records):
            n_known = len(before.offsets) if isinstance(before, Records) else 0
            known_bytes = 0 if before is not None else self._bytes_known(path)
            is_new = now.offsets[n_known:] >= known_bytes
            return [Arrival(channel, start_ns[n_known:], end_ns[n_known:], is_new)]
        if before is not None:  # what was added lies after what was known
            start_ns = np.maximum(start_ns, np.max(before.end_ns))
        is_new = np.array([before is not None or self._bytes_known(path) < now.n_bytes])
        return [Arrival(channel, start_ns, end_ns, is_new)]

    def _bytes_known(self, path: Path) -> int:
        """Return how much of a file that is seen for the first time was known before."""
        if self._known is None:
            return path.stat().st_size if self._first else 0
        return self._known.get(str(path.relative_to(self.root)), 0)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file that ``update`` has seen."""
        return {str(path.relative_to(self.root)): file.n_bytes for path, file in self.files.items()}


def _reindexed(path: Path, before: Records | WholeFile | None) -> Records | WholeFile:
    """Return the index of a file as it is now; ``before`` if nothing was added."""
    if isinstance(before, Records):
        return before.grown()
    if before is not None and path.stat().st_size == before.n_bytes:
        return before
    return index_file(path, {})
