"""What the packing of recordings has done: counts, and names with reasons."""

from dataclasses import dataclass, field

from preprocessing.recordings import Recording

PACKING = "packing.json"  # in the archive; it holds the report
LARGEST_USEFUL_RATIO = 1.9  # of the archive's sampling rate to the recordings'; more is said


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
