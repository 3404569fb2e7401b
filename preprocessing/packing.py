"""Pack recordings into an event archive: those of a folder, ``root/<Class>/*``, or another source.

``packing.json`` in the archive stores the options, and the size, time and checksum of every file.
The source is packed again only when they have changed.
"""

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from preprocessing.archive_writer import ArchiveWriter, one_process_at_a_time
from preprocessing.event_archive import WAVEFORMS, ArchiveError, EventArchive, join_names
from preprocessing.levels import about_onsets
from preprocessing.recording_folder import (
    EventSource,
    EventToPack,
    RecordingFolder,
    has_changed,
)
from preprocessing.recordings import Recording
from utils.parallel import map_in_order
from utils.progress import progress_bar

PACKING = "packing.json"  # in the archive; it holds the report
LARGEST_USEFUL_RATIO = 1.9  # of the archive's sampling rate to the recordings'; more is said
log = logging.getLogger(__name__)
MAX_SERIAL_FILES = 100  # up to this number, starting worker processes takes longer than reading


@dataclass
class PackReport:
    """Counts of packed, changed and skipped recordings and channels."""

    n_events: int = 0
    n_channels: int = 0
    n_channels_resampled: int = 0
    n_channels_left_out: int = 0
    n_channels_bridged: int = 0
    n_events_cut: int = 0
    n_events_padded: int = 0
    n_channels_padded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)  # by event: channels and reasons
    padded: dict[str, list[str]] = field(default_factory=dict)
    n_channels_of_rate: dict[str, int] = field(default_factory=dict)  # by rate in Hz, as recorded
    sampling_rate_hz: float | None = None  # of the archive

    def __str__(self) -> str:
        parts = [f"{self.n_events} events, {self.n_channels} channels"]
        for n, what in (
            (self.n_channels_resampled, "channels resampled"),
            (self.n_channels_left_out, f"channels left out ({PACKING} says why)"),
            (self.n_channels_padded, f"channels padded to the event's length ({PACKING})"),
            (self.n_channels_bridged, "channels with interpolated gaps"),
            (self.n_events_cut, "events cut at the end to the archive's length"),
            (self.n_events_padded, "events padded at the end to the archive's length"),
            (len(self.unreadable), "unreadable files skipped"),
        ):
            if n:
                parts.append(f"{n} {what}")
        return "; ".join(parts)

    def count(self, name: str, recording: Recording) -> None:
        """Add one recording to the counts."""
        self.n_events += 1
        self.n_channels += len(recording.waveforms)
        self.n_channels_resampled += recording.n_resampled
        self.n_channels_left_out += len(recording.left_out)
        self.n_channels_bridged += recording.n_bridged
        self.n_channels_padded += len(recording.padded)
        for rate_hz in recording.own_rates_hz:
            key = f"{rate_hz:.4g}"
            self.n_channels_of_rate[key] = self.n_channels_of_rate.get(key, 0) + 1
        if recording.left_out:
            self.left_out[name] = list(recording.left_out)
        if recording.padded:
            self.padded[name] = list(recording.padded)

    def examples(self, n: int = 5) -> list[str]:
        """Return the first ``n`` channels that were left out or padded, with the reasons."""
        changes = (self.left_out, "left out"), (self.padded, "padded")
        lines = [
            f"{name}: {what}: {reason}"
            for events, what in changes
            for name, reasons in events.items()
            for reason in reasons
        ]
        more = [f"and {len(lines) - n} more"] if len(lines) > n else []
        return lines[:n] + more

    def about_rates(self, was_chosen: bool) -> str:
        """Say at which rates channels were recorded, if that is not the archive's, or was not set.

        ``was_chosen`` is true if the configuration sets the archive's rate.
        """
        rates = sorted(self.n_channels_of_rate.items(), key=lambda item: -item[1])
        if not rates or self.sampling_rate_hz is None:
            return ""
        found = ", ".join(f"{n} at {rate} Hz" for rate, n in rates[:6])
        usual, wanted = float(rates[0][0]), self.sampling_rate_hz
        if not was_chosen:
            return (
                f"Sampling rate: {wanted:g} Hz, the most common one. Channels by rate as recorded: "
                f"{found}. dataset.sampling_freq sets another"
            )
        if wanted > LARGEST_USEFUL_RATIO * usual:
            return (
                f"Most channels were recorded at {usual:g} Hz: dataset.sampling_freq {wanted:g} "
                f"makes the archive {wanted / usual:.3g} times as large and adds nothing. Channels "
                f"by rate as recorded: {found}"
            )
        return ""


def pack_recordings(
    source_dir: str | Path | EventSource,
    archive_dir: str | Path,
    sampling_rate_hz: float | None = None,
    duration_s: float | None = None,
    max_gap_s: float = 0.0,
    skip_unreadable: bool = False,
    n_workers: int | None = None,
) -> PackReport:
    """Pack the recordings ``source_dir/<Class>/*`` into ``archive_dir``: all of them or nothing.

    ``source_dir`` may also be another source of events. ``sampling_rate_hz=None`` takes the most
    common rate of the recordings, ``duration_s=None`` their median length. Gaps up to ``max_gap_s``
    are interpolated. Raises ``ArchiveError`` with a list of the unreadable files, unless
    ``skip_unreadable`` is set and at least one event can be packed.
    """
    source, archive_dir = _as_source(source_dir), Path(archive_dir)
    events = source.list_events()
    report, identities = PackReport(), {}
    rate_hz = sampling_rate_hz or source.common_rate_hz(events)
    with ArchiveWriter(archive_dir, rate_hz, duration_s) as writer:
        read = partial(_read, source, writer.partial, rate_hz, max_gap_s)
        results = map_in_order(read, [event.place for event in events], n_workers, MAX_SERIAL_FILES)
        progress = progress_bar(results, total=len(events), desc="Packing", unit="event")
        for event, (stored, reason, identity) in zip(events, progress):
            identities[event.name] = identity
            reason = reason or _add(writer, report, event, stored.load(), identity)
            if reason:
                report.unreadable[event.name] = reason
        if report.unreadable and not (skip_unreadable and report.n_events):
            raise ArchiveError(_unreadable_message(archive_dir, report))
        writer.fit_lengths()
        report.n_events_cut, report.n_events_padded = writer.n_cut, writer.n_padded
        report.sampling_rate_hz = writer.sampling_rate_hz
        content = {
            "options": _options(sampling_rate_hz, duration_s, max_gap_s) | source.options,
            "report": asdict(report),
            "files": source.known_files(identities),
        }
        (writer.partial / PACKING).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return report


def _as_source(source: str | Path | EventSource) -> EventSource:
    return RecordingFolder(Path(source)) if isinstance(source, str | Path) else source


def open_or_pack(
    source_dir: str | Path | EventSource,
    archive_dir: str | Path,
    sampling_rate_hz: float | None = None,
    duration_s: float | None = None,
    max_gap_s: float = 0.0,
    skip_unreadable: bool = False,
) -> EventArchive:
    """Open the archive of ``source_dir``; pack it first if it is missing or out of date.

    It is out of date when files or options have changed. Arguments and errors are those of
    ``pack_recordings``.
    """
    source, archive_dir = _as_source(source_dir), Path(archive_dir)
    with one_process_at_a_time(archive_dir):
        options = _options(sampling_rate_hz, duration_s, max_gap_s) | source.options
        reason = _why_pack(source, archive_dir, options, skip_unreadable)
        if reason:
            log.info("%s: %s; packing into %s", source.root, reason, archive_dir)
            report = pack_recordings(
                source, archive_dir, sampling_rate_hz, duration_s, max_gap_s, skip_unreadable
            )
            log.info("Packed %s", report)
            for line in report.examples():
                log.info("  %s", line)
            archive = EventArchive(archive_dir)
            about = report.about_rates(sampling_rate_hz is not None), about_onsets(archive)
            for line in filter(None, about):
                log.info("%s", line)
            return archive
    return EventArchive(archive_dir)


def _options(
    sampling_rate_hz: float | None, duration_s: float | None, max_gap_s: float
) -> dict[str, Any]:
    return {"sampling_rate_hz": sampling_rate_hz, "duration_s": duration_s, "max_gap_s": max_gap_s}


@dataclass(frozen=True)
class _StoredRecording:
    """A recording whose waveforms are in a temporary file.

    Sending them from a worker process through a pipe would take a third of the reading time.
    """

    recording: Recording
    path: Path

    @classmethod
    def save(cls, recording: Recording, scratch: Path) -> "_StoredRecording":
        """Write the waveforms to a new file in the folder ``scratch``."""
        path = scratch / f"{uuid4().hex}.npy"
        try:
            np.save(path, recording.waveforms)
        except OSError as error:
            raise ArchiveError(f"{path}: cannot be written: {error.strerror or error}") from error
        return cls(replace(recording, waveforms=np.empty((0, 0), np.float32)), path)

    def load(self) -> Recording:
        """Return the recording with its waveforms and delete the file."""
        recording = replace(self.recording, waveforms=np.load(self.path))
        self.path.unlink()
        return recording


def _read(
    source: EventSource,
    scratch: Path,
    sampling_rate_hz: float | None,
    max_gap_s: float,
    place: Any,
) -> tuple[Any, str, dict[str, Any]]:
    """Read one event: a ``_StoredRecording``, or None with the reason; and its identity."""
    recording, identity = source.read(place, sampling_rate_hz, max_gap_s)
    if isinstance(recording, str):
        return None, recording, identity
    return _StoredRecording.save(recording, scratch), "", identity


def _add(
    writer: ArchiveWriter,
    report: PackReport,
    event: EventToPack,
    recording: Recording,
    identity: dict[str, Any],
) -> str:
    """Write and count one recording; return the reason if the archive refuses it."""
    try:
        writer.add(
            event.name.replace("/", "__").replace("$", "_"),  # SeisBench gives $ a meaning
            recording.waveforms,
            event.category,
            recording.start_time,
            recording.sampling_rate_hz,
            recording.onset_s,
            **event.columns,
            source_sha256=identity["sha256"],
            channels=join_names(recording.channels),
            source_rate_hz=f"{recording.own_rate_hz:g}",
            seg2_delay_s="" if recording.delay_s is None else f"{recording.delay_s:g}",
        )
    except ArchiveError as error:
        return str(error)
    report.count(event.name, recording)
    return ""


def _unreadable_message(archive_dir: Path, report: PackReport) -> str:
    reasons = list(report.unreadable.values())
    listing = archive_dir.with_name(archive_dir.name + ".unreadable.txt")
    listing.write_text("\n".join(reasons) + "\n", encoding="utf-8")
    shown = "\n  ".join(reasons[:5])
    return (
        f"{len(reasons)} of {report.n_events + len(reasons)} recordings cannot be used "
        f"(all listed in {listing}):\n  {shown}\n"
        "Repair or remove them, or set dataset.skip_unreadable to true to go on without them."
    )


def _why_pack(
    source: EventSource, archive_dir: Path, options: dict[str, Any], skip_unreadable: bool
) -> str:
    """Return the reason why the source must be packed; an empty string if there is none."""
    files = source.files()
    try:
        packed = json.loads((archive_dir / PACKING).read_text(encoding="utf-8"))
        known, unreadable = dict(packed["files"]), packed["report"]["unreadable"]
        changed = sum(
            has_changed(path, known[name]) for name, path in files.items() if name in known
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # packing.json is missing or damaged
        return "not packed yet"
    if not (archive_dir / WAVEFORMS).is_file():
        return "waveforms are missing"
    if packed.get("options") != options:
        return "packed with other options"
    if unreadable and not skip_unreadable:
        return "packed without its unreadable files"
    counts = {
        "added": len(files.keys() - known.keys()),
        "changed": changed,
        "removed": len(known.keys() - files.keys()),
    }
    return ", ".join(f"{n} files {what}" for what, n in counts.items() if n)
