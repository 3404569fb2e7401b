"""A folder of recordings, ``root/<Class>/<recording>``, as a source of events to pack."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from preprocessing.channels import LEAST_RATE_SHARE, SAME_RATE, UNLABELED
from preprocessing.event_archive import ArchiveError
from preprocessing.recordings import Recording, read_recording
from preprocessing.traces import RecordingError, read_traces

NEARLY_UNLABELED = ("unlabeled", "unlabelled")  # in small letters
MAX_FILES_FOR_RATE = 200  # whose headers are read to find the most common sampling rate


class EventToPack(NamedTuple):
    """One event of a source: its name, its class, where it is, more columns of the metadata."""

    name: str
    category: str
    place: Any
    columns: dict[str, str] = {}


class EventSource(Protocol):
    """Where events to pack come from; it is sent to worker processes."""

    @property
    def root(self) -> Path:
        """Folder of the source."""

    @property
    def options(self) -> dict[str, Any]:
        """What decides, besides the options of the packing, what is in the archive."""

    def files(self) -> dict[str, Path]:
        """Return the files whose change makes an archive out of date, by name."""

    def list_events(self) -> Sequence[EventToPack]:
        """List the events. Raises ``ArchiveError`` if there are none."""

    def common_rate_hz(self, events: Sequence[EventToPack]) -> float | None:
        """Return the most common sampling rate; None if no rate is known before reading."""

    def read(
        self, place: Any, sampling_rate_hz: float | None, max_gap_s: float
    ) -> tuple[Recording | str, dict[str, Any]]:
        """Read one event, or return the reason why it cannot be used.

        The dict identifies the recording (``sha256``).
        """

    def known_files(self, identities: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the identity of each file, given those of the events from ``read``."""


@dataclass(frozen=True)
class RecordingFolder:
    """The files ``root/<Class>/*``; each is one event."""

    root: Path
    options: dict[str, Any] = field(default_factory=dict)

    def files(self) -> dict[str, Path]:
        """Return the recordings by their names relative to the folder."""
        return {path.relative_to(self.root).as_posix(): path for path in list_recordings(self.root)}

    def list_events(self) -> list[EventToPack]:
        """List the recordings, sorted by class and name."""
        return [
            EventToPack(name, name.split("/")[0], path, {"source_file": name})
            for name, path in self.files().items()
        ]

    def common_rate_hz(self, events: Sequence[EventToPack]) -> float | None:
        """Return the sampling rate of most channels, from the headers of at most 200 files."""
        return _most_common_rate([event.place for event in events])

    def read(
        self, place: Path, sampling_rate_hz: float | None, max_gap_s: float
    ) -> tuple[Recording | str, dict[str, Any]]:
        """Read one file, or return the reason; also return its size, time and checksum."""
        name = os.fsencode(place).decode("utf-8", "backslashreplace")
        if name != str(place):  # the name becomes the name of the event, stored as UTF-8
            return f"{name}: its name is not UTF-8; rename it", {}
        identity = {}
        try:
            identity = file_identity(place)
            return read_recording(place, sampling_rate_hz, max_gap_s), identity
        except RecordingError as error:
            return str(error), identity
        except OSError as error:
            return f"{place}: {error.strerror}", {}

    def known_files(self, identities: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the identity of each file, which is that of its event."""
        return identities


def list_recordings(source_dir: str | Path) -> list[Path]:
    """List the files ``source_dir/<Class>/*``, sorted by class and name, without hidden files.

    Raises ``ArchiveError`` if there is no such folder or it holds no recordings, and for a folder
    ``unlabeled``, which would be a class.
    """
    source_dir = Path(source_dir)
    if not source_dir.is_dir():
        raise ArchiveError(
            f"{source_dir}: no such folder; dataset.root must hold one folder of recordings per "
            "class"
        )
    classes = sorted(
        path for path in source_dir.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    for path in classes:
        if path.name.casefold() in NEARLY_UNLABELED and path.name != UNLABELED:
            raise ArchiveError(
                f"{path}: would be a class; rename the folder to {UNLABELED}, which holds events "
                "without a label"
            )
    files = [
        file
        for path in classes
        for file in sorted(path.iterdir())
        if file.is_file() and file.name[0] != "."
    ]
    if not files:
        raise ArchiveError(
            f"{source_dir}: no recordings found; expected {source_dir}/<Class>/<recording>"
        )
    return files


def _most_common_rate(files: Sequence[Path]) -> float | None:
    """Return the sampling rate of most channels in some of the files; None if none can be read.

    Channels with far lower rates than others of their file (state of health) do not count.
    """
    step = max(1, len(files) // MAX_FILES_FOR_RATE)
    counts: Counter[float] = Counter()
    for path in files[::step]:
        try:
            traces = read_traces(path, headonly=True)
        except (RecordingError, OSError):
            continue
        rates = {
            trace.id + str(number) * (not trace.id.strip(".")): trace.stats.sampling_rate
            for number, trace in enumerate(traces)
        }
        highest = max(rates.values(), default=0)
        counts.update(
            float(rate)
            for rate in rates.values()
            if rate > 0 and rate >= LEAST_RATE_SHARE * highest
        )
    if not counts:
        return None
    # clocks differ a little: 99.9999 and 100 Hz are one rate
    groups = Counter(
        {
            rate: sum(n for other, n in counts.items() if abs(other / rate - 1) <= SAME_RATE)
            for rate in counts
        }
    )
    return max(groups, key=lambda rate: (groups[rate], counts[rate], rate))


def file_identity(path: Path) -> dict[str, Any]:
    """Return size, time and checksum of a file."""
    stat = path.stat()
    return {"size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_changed(path: Path, identity: dict[str, Any]) -> bool:
    """Check whether a file differs from its identity; one that was only touched does not."""
    stat = path.stat()
    if stat.st_size != identity.get("size_bytes"):
        return True
    return stat.st_mtime_ns != identity.get("mtime_ns") and _sha256(path) != identity.get("sha256")
