"""The report of the check as text."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from preprocessing.check.advice import (
    Advice,
    advise,
    common_rate_hz,
    days_of_classes,
    double_channels,
    duplicates,
    warnings_about_classes,
    warnings_about_levels,
)
from preprocessing.check.measure import (
    LEAST_DEAD_SHARE,
    MeasuredChannel,
    MeasuredEvent,
    outcome,
)

MAX_EXAMPLES = 8  # of a kind of fault
COLUMNS = ("class", "events", "channels", "length (s)", "noise", "peak", "days", "first", "last")


def write_report(
    place: str, events: Sequence[MeasuredEvent], is_archive: bool, ignored: Sequence[str] = ()
) -> str:
    """Return the report on all events of a folder or an archive; ``ignored`` was not looked at."""
    channels = [channel for event in events for channel in event.channels]
    names = {channel.span.name for channel in channels}
    head = f"{place}: {len(events)} events, {len(channels)} channels of {len(names)} names"
    advice = advise(events, is_archive)
    sections = [
        head,
        _table(events),
        "(least, median and most in each class; noise: rms in the quietest tenth of a channel, and "
        "peak, in recorder units)",
        _section("Sampling rates", _rates(channels)),
        *_faults(events),
        *([] if not advice else _packing(events, advice, is_archive)),
        _examples("Not read", ignored),
        _section("Classes to look at", warnings_about_classes(events)),
        _advice(advice, place, is_archive),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _section(title: str, lines: Iterable[str]) -> str:
    """Return a title with its lines; an empty string without lines."""
    lines = list(lines)
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _examples(title: str, lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - MAX_EXAMPLES} more"] if len(lines) > MAX_EXAMPLES else []
    return _section(f"{title}: {len(lines)}", [*lines[:MAX_EXAMPLES], *more]) if lines else ""


def _table(events: Sequence[MeasuredEvent]) -> str:
    days = days_of_classes(events)
    rows = [COLUMNS]
    for name in sorted({event.category for event in events}):
        own = [event for event in events if event.category == name]
        channels = [channel for event in own for channel in event.channels if not channel.is_dead]
        spans_s = [_length_s(event) for event in own if event.channels]
        dates = sorted(days[name])
        cells = (
            name,
            str(len(own)),
            _three([len(event.channels) for event in own if event.channels]),
            _three(spans_s),
            _three([channel.noise for channel in channels if channel.noise > 0]),
            _three([channel.peak for channel in channels]),
            str(len(dates)),
            *((dates[0], dates[-1]) if dates else ("", "")),
        )
        rows.append(cells)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _length_s(event: MeasuredEvent) -> float:
    spans = [channel.span for channel in event.channels]
    return float(np.median([(span.end_ns - span.start_ns) * 1e-9 for span in spans]))


def _three(values: Sequence[float]) -> str:
    """Return least, median and most; one number if they are the same."""
    if not values:
        return "-"
    low, middle, high = (f"{value:.3g}" for value in np.quantile(values, [0, 0.5, 1]))
    return low if low == high else f"{low} / {middle} / {high}"


def _rates(channels: Iterable[MeasuredChannel]) -> list[str]:
    counts = Counter(f"{channel.span.own_rate_hz:g} Hz" for channel in channels)
    return [", ".join(f"{rate}: {n} channels" for rate, n in counts.most_common())]


def _faults(events: Sequence[MeasuredEvent]) -> list[str]:
    """Return a section for each kind of fault that was found."""

    def channels(what: Callable[[MeasuredChannel], str]) -> list[str]:
        return [
            f"{event.name}: {channel.span.name}{text}"
            for event in events
            for channel in event.channels
            if (text := what(channel))
        ]

    def dead(channel: MeasuredChannel) -> str:
        return ": constant" if channel.is_dead else ""

    def partly_dead(channel: MeasuredChannel) -> str:
        if not LEAST_DEAD_SHARE <= channel.dead_share < 1:
            return ""
        return f": {100 * channel.dead_share:.0f} % of it is one value"

    def clipped(channel: MeasuredChannel) -> str:
        return f": at {channel.peak:.3g}" if channel.is_clipped else ""

    return [
        _examples("Dead channels", channels(dead)),
        _examples("Channels with a dead part", channels(partly_dead)),
        _examples("Clipped channels", channels(clipped)),
        _examples("Levels to look at", warnings_about_levels(events)),
        _examples("Copies of events", duplicates(events)),
        _examples("Copies of channels", double_channels(events)),
    ]


def _packing(events: Sequence[MeasuredEvent], advice: Advice, is_archive: bool) -> list[str]:
    """Return what packing with the advised values would do; of an archive, what it did."""
    rate_hz = common_rate_hz(events)
    problems, left_out, padded, lengths_s = [], [], [], []
    for event in events:
        found = outcome(event, rate_hz)
        left_out += [f"{event.name}: {reason}" for reason in found.left_out]
        padded += [f"{event.name}: {reason}" for reason in found.padded]
        if found.problem:
            problems.append(found.problem)
        else:
            lengths_s.append(found.length_s)
    lists = [
        _examples("Channels left out", left_out),
        _examples("Channels padded to the window of their event", padded),
        _examples("Events that cannot be used", problems),
    ]
    if is_archive:
        return lists
    duration_s = float(str(advice["duration_s"][0]))
    longer_s = [length - duration_s for length in lengths_s if length > duration_s + 1 / rate_hz]
    shorter_s = [duration_s - length for length in lengths_s if length < duration_s - 1 / rate_hz]
    about = f"{len(lengths_s)} of {len(events)} events at {rate_hz:g} Hz and {duration_s:g} s"
    for what, differences_s in (("cut", longer_s), ("padded", shorter_s)):
        if differences_s:
            about += f"; {len(differences_s)} are {what} at the end by up to"
            about += f" {max(differences_s):.3g} s"
    return [_section("What packing with the values below does", [about]), *lists]


def _advice(advice: Advice, place: str, is_archive: bool) -> str:
    if not advice:
        return "No event can be used: no advice."
    texts = [f"{key}: {_yaml(value)}" for key, (value, _) in advice.items()]
    width = max(map(len, texts))
    lines = ["dataset:", "  source: folder", f"  root: {place}"]
    lines += [
        f"  {text.ljust(width)}  # {reason}" for text, (_, reason) in zip(texts, advice.values())
    ]
    chosen = "" if is_archive else " (then packing is done by the first training)"
    return _section(f"Advice for the configuration{chosen}", lines)


def _yaml(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
