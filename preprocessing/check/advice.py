"""Advise on the configuration from what the check measured, and name what a person should look at.

Each advice comes with its reason. Nothing is changed: the user decides.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from preprocessing.channels import UNLABELED
from preprocessing.check.measure import (
    BRIDGED_GAP_S,
    SLOW_HZ,
    MeasuredChannel,
    MeasuredEvent,
    Outcome,
    outcome,
)

LEAST_EVENTS = 5  # of a class; fewer cannot be split into training and test events with meaning
LEAST_DAYS = 5  # of each class, to divide by day
LEAST_WORD = 4  # letters; in shorter words another letter is not taken for a typing error
LARGE_FACTOR = 1000.0  # between the level of an event and that of most others
LEAST_NOISE = 1e-3  # recorder units; smaller is velocity in m/s rather than counts
LEAST_NPERSEG = 16
LEAST_SLOW_CHANNELS = 0.2  # share of slow channels from which on a high-pass is advised
# of the published images: 41 rows and 228 columns, 80 samples per segment for 16 000 samples
NPERSEG_PER_ROOT = 80 / math.sqrt(16_000)

Advice = dict[str, tuple[object, str]]  # key of the section dataset: value, reason


def common_rate_hz(events: Iterable[MeasuredEvent]) -> float:
    """Return the most common sampling rate of the channels; 0 if there are none."""
    channels = (channel for event in events for channel in event.channels)
    rates = Counter(channel.span.own_rate_hz for channel in channels if not channel.is_dead)
    return max(rates, key=lambda rate: (rates[rate], rate), default=0.0)


def advise(events: Sequence[MeasuredEvent], is_archive: bool) -> Advice:
    """Return advice for the section ``dataset``; for an archive, only what still can be chosen."""
    rate_hz = common_rate_hz(events)
    outcomes = [outcome(event, rate_hz) for event in events]
    lengths_s = sorted(found.length_s for found in outcomes if not found.problem)
    if not lengths_s:
        return {}
    advice: Advice = {}
    if not is_archive:
        advice["sampling_freq"] = rate_hz, _why_rate(events, rate_hz)
    # nine of ten events are at least so long: few are padded
    duration_s = float(f"{lengths_s[len(lengths_s) // 10]:.4g}")
    if not is_archive:
        advice["duration_s"] = duration_s, "at most one event in ten is shorter and padded"
        advice |= _about_files(events, outcomes)
    n_samples = duration_s * rate_hz
    advice["nperseg"] = _nperseg(n_samples, rate_hz)
    if highpass := _highpass(events):
        advice["highpass_hz"] = highpass
    advice["split"] = _split(events)
    return advice


def _why_rate(events: Sequence[MeasuredEvent], rate_hz: float) -> str:
    rates = [channel.span.own_rate_hz for event in events for channel in event.channels]
    share = 100 * np.mean([abs(rate / rate_hz - 1) < 0.01 for rate in rates])
    slower = 100 * np.mean([rate < 0.99 * rate_hz for rate in rates])
    reason = f"the most common rate, of {share:.0f} % of the channels"
    if slower:
        reason += f"; {slower:.0f} % have less and will be empty at high frequencies"
    return reason


def _about_files(events: Sequence[MeasuredEvent], outcomes: Sequence[Outcome]) -> Advice:
    advice: Advice = {}
    n_short = sum(event.n_with_short_gaps for event in events)
    if n_short:
        reason = f"keeps {n_short} channel(s) with short gaps, which are interpolated"
        advice["max_gap_s"] = BRIDGED_GAP_S, reason
    n_problems = sum(bool(found.problem) for found in outcomes)
    if n_problems:
        reason = f"goes on without {n_problems} file(s); to repair them is better"
        advice["skip_unreadable"] = "true", reason
    return advice


def _nperseg(n_samples: float, rate_hz: float) -> tuple[int, str]:
    wanted = NPERSEG_PER_ROOT * math.sqrt(n_samples)
    nperseg = max(LEAST_NPERSEG, 2 * round(wanted / 2))
    rows, columns = nperseg // 2 + 1, int((n_samples - nperseg) // (nperseg - nperseg // 8) + 1)
    reason = (
        f"{nperseg / rate_hz:.3g} s: images of {rows} x {columns}, rows of {rate_hz / nperseg:.3g} "
        "Hz, in the proportions of the published ones"
    )
    return nperseg, reason


def _highpass(events: Sequence[MeasuredEvent]) -> tuple[float, str] | None:
    shares = [channel.slow_share for event in events for channel in event.channels]
    known = [share for share in shares if not math.isnan(share)]
    slow = float(np.mean(np.greater(known, 0.5))) if known else 0.0
    if slow < LEAST_SLOW_CHANNELS:
        return None
    reason = (
        f"{100 * slow:.0f} % of the channels have most of their power below {SLOW_HZ:g} Hz: "
        "microseism or drift"
    )
    return SLOW_HZ, reason


def days_of_classes(events: Iterable[MeasuredEvent]) -> dict[str, set[str]]:
    """Return the UTC days of each class."""
    days: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.start_time:
            days[event.category].add(event.start_time[:10])
    return days


def _split(events: Sequence[MeasuredEvent]) -> tuple[str, str]:
    labelled = [e for e in events if e.category != UNLABELED and not e.problem]
    if not labelled:
        return "nested", "there are no labelled events"
    days = days_of_classes(labelled)
    names = {event.category for event in labelled}
    if not days or names - days.keys():
        return "nested", "the start times are not known"
    n_days = len(set().union(*days.values()))
    fewest = min(names, key=lambda name: len(days[name]))
    if n_days == len(labelled):
        return "nested", "every event is on a day of its own"
    if len(days[fewest]) < LEAST_DAYS:
        reason = (
            f"class {fewest} is on {len(days[fewest])} day(s), too few for by_day; test events of "
            "the same day resemble training events, so scores will be too good"
        )
        return "nested", reason
    reason = f"{n_days} days; events of one day resemble each other and stay on one side"
    return "by_day", reason


def warnings_about_classes(events: Sequence[MeasuredEvent]) -> list[str]:
    """Name classes with too few events, and classes that may be one with a typing error."""
    counts = Counter(event.category for event in events if not event.problem)
    names = sorted({event.category for event in events})
    lines = [
        f"class {name} has {counts[name]} usable event(s); at least {LEAST_EVENTS} are advised "
        "to train and to test (2 are the minimum)"
        for name in names
        if counts[name] < LEAST_EVENTS and name != UNLABELED
    ]
    if len(set(names) - {UNLABELED}) < 2:
        lines.append("a classifier needs at least two classes (one folder each)")
    lines += [
        f"classes {a} and {b} have nearly the same name: one class with a typing error?"
        for a, b in itertools.combinations(names, 2)
        if one_typo_apart(a, b)
    ]
    return lines


def one_typo_apart(a: str, b: str) -> bool:
    """Check whether two names are likely meant to be one.

    They differ in upper case, signs between words, a plural, or one letter (other, missing, added
    or swapped) of one word of four letters or more: ``HF`` and ``LF`` are different words.
    """
    words_a, words_b = (re.findall(r"[^\W_]+", name.casefold()) for name in (a, b))
    if "".join(words_a) == "".join(words_b):
        return True
    if len(words_a) != len(words_b):
        return False
    different = [(x, y) for x, y in zip(words_a, words_b) if x != y]
    if len(different) != 1 or min(map(len, different[0])) < LEAST_WORD:
        return False
    short, long = sorted(different[0], key=len)
    first = next((i for i, (x, y) in enumerate(zip(short, long)) if x != y), len(short))
    changed = short[first : first + 1] + long[first : first + 1]
    if any(letter.isdigit() for letter in changed):  # Station1 and Station2
        return False
    if len(short) != len(long):
        return short[first:] == long[first + 1 :]
    swapped = long[first : first + 2][::-1] + long[first + 2 :]
    return short[first + 1 :] == long[first + 1 :] or short[first:] == swapped


def warnings_about_levels(events: Sequence[MeasuredEvent]) -> list[str]:
    """Name events in other units than the rest, and say if the samples are no recorder counts."""
    levels = {event.name: _level(event.channels) for event in events}
    known = {name: level for name, level in levels.items() if level > 0}
    if not known:
        return []
    typical = float(np.median(list(known.values())))
    lines = [
        f"{name}: its noise is {level:.2g}, that of most events {typical:.2g}; other units or gain?"
        for name, level in known.items()
        if not 1 / LARGE_FACTOR < level / typical < LARGE_FACTOR
    ]
    if typical < LEAST_NOISE:
        lines.append(
            f"noise of {typical:.2g} is no recorder counts (m/s?): images of log10(S + 1) would be "
            "empty without a factor"
        )
    return lines


def _level(channels: Sequence[MeasuredChannel]) -> float:
    """Return the median noise of an event's channels; 0 if none could be measured."""
    return float(np.median([channel.noise for channel in channels if channel.noise > 0] or [0]))


def duplicates(events: Sequence[MeasuredEvent]) -> list[str]:
    """Name events with the same samples; those in two classes first, because one is wrong."""
    by_samples: dict[tuple[int, ...], list[MeasuredEvent]] = defaultdict(list)
    for event in events:
        living = sorted(channel.checksum for channel in event.channels if not channel.is_dead)
        if living:
            by_samples[tuple(living)].append(event)
    in_two, in_one = [], []
    for same in by_samples.values():
        if len(same) > 1:
            places = ", ".join(_place(event) for event in same)
            if len({event.category for event in same}) > 1:
                in_two.append(f"{places}: the same samples in two classes")
            else:
                in_one.append(f"{places}: the same samples")
    return in_two + in_one


def _place(event: MeasuredEvent) -> str:
    return event.name if "/" in event.name else f"{event.name} ({event.category})"


def double_channels(events: Sequence[MeasuredEvent]) -> list[str]:
    """Name channels that are copies of another channel of their event."""
    lines = []
    for event in events:
        first: dict[int, str] = {}
        for channel in event.channels:
            name = channel.span.name
            if not channel.is_dead and first.setdefault(channel.checksum, name) != name:
                lines.append(f"{event.name}: {name} has the samples of {first[channel.checksum]}")
    return lines
