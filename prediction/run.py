"""What predict.py does: classify files, continuous recordings or an SDS archive into a table."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prediction.arguments import Outputs
from prediction.classifier import EVENTS_PER_BATCH, Classifier
from prediction.events import EventWindow, event_key, read_event
from prediction.outputs import EventWriter
from utils.cli import stop_at_signals
from utils.errors import Interrupted, UserError
from utils.parallel import keep_freed_memory, map_in_order, prefetch
from utils.progress import progress_bar

if TYPE_CHECKING:
    from prediction.continuous.continuous_data import Source
    from prediction.continuous.sds import Pattern

log = logging.getLogger(__name__)
MAX_SERIAL_FILES = 32  # starting processes costs more than reading these


def run(classifier: Classifier, arguments: Namespace) -> int:
    """Do what the command line of predict.py asks; return the exit status.

    It is 1 if some recordings could not be used.
    """
    outputs, strict = arguments.outputs, arguments.strict
    stop_at_signals("go on by the same command" + " with --resume" * (not arguments.follow))
    many = len(getattr(arguments, "files", ())) > EVENTS_PER_BATCH
    if many or arguments.continuous or arguments.sds:
        keep_freed_memory()  # for the next batch
    if arguments.tune:
        return tune_trigger(classifier, arguments)
    if arguments.follow:
        return follow_archive(classifier, arguments)
    if not (arguments.continuous or arguments.sds):
        return int(predict_files(classifier, arguments.files, outputs, strict) > 0)
    name = ", ".join(arguments.recordings[:3]) if arguments.sds is None else str(arguments.sds)
    return int(predict_data(classifier, _data(arguments), name, outputs, strict) > 0)


def _data(arguments: Namespace) -> "Source":
    """Return the continuous recordings that were named on the command line."""
    if arguments.sds is None:
        from prediction.continuous.continuous_data import ContinuousData

        return ContinuousData(arguments.files)
    from prediction.continuous.sds import SdsArchive

    return SdsArchive(arguments.sds, *_span_of_archive(arguments))


def tune_trigger(classifier: Classifier, arguments: Namespace) -> int:
    """Count the events that a grid of triggers finds in continuous recordings; return 0."""
    from prediction.continuous.tune import read_known_times, tune, write_tuning

    known_ns = None if arguments.known_times is None else read_known_times(arguments.known_times)
    source, config = _data(arguments), classifier.config
    found = tune(classifier.finder(source, "", []), config.chunk_s)
    write_tuning(found, source, known_ns, config.trigger, arguments.out)
    return 0


def _span_of_archive(arguments: Namespace) -> tuple[list["Pattern"], int | None, int | None]:
    """Return the channels, start and end (ns since 1970, None: open) that were asked for."""
    from prediction.continuous.sds import parse_streams

    from_ns, to_ns = (
        _utc_ns(flag, text) for flag, text in (("--from", arguments.start), ("--to", arguments.end))
    )
    if from_ns is not None and to_ns is not None and from_ns >= to_ns:
        raise UserError(f"--to: found {arguments.end}; should be after --from, {arguments.start}")
    return parse_streams(arguments.streams), from_ns, to_ns


def _utc_ns(flag: str, text: str | None) -> int | None:
    from obspy import UTCDateTime

    if text is None:
        return None
    try:
        return UTCDateTime(text).ns
    except Exception as error:  # ObsPy raises many kinds for what is no time
        raise UserError(
            f"{flag}: found {text}; should be a time (UTC) such as 2024-05-01T06:00:00"
        ) from error


def follow_archive(classifier: Classifier, arguments: Namespace) -> int:
    """Follow an SDS archive until ``--to``, or until the process is stopped; return 0.

    An existing table is continued.
    """
    from prediction.monitoring.alarms import Alarms
    from prediction.monitoring.follower import Follower, FollowState, load_state, state_path
    from prediction.monitoring.growing_archive import GrowingArchive

    outputs = arguments.outputs
    patterns, from_ns, to_ns = _span_of_archive(arguments)
    params = classifier.config.follow
    # without its table, what was found is gone: it is searched again
    state = load_state(state_path(outputs.out)) if outputs.out.exists() else FollowState()
    archive = GrowingArchive(arguments.sds, patterns, sizes=state.sizes)
    alarms = Alarms(arguments.on_event, params.on_event_timeout_s, params.shell)
    with EventWriter(classifier.predictor, outputs) as writer:
        follower = Follower(classifier, archive, writer, alarms, state, str(arguments.sds))
        try:
            follower.begin(from_ns)
            follower.run(to_ns)
            alarms.close()
            follower.save()
        except Interrupted:  # Ctrl-C is how following usually ends
            writer.write_catalogues()
            raise
        finally:
            alarms.close(wait=False)
    writer.finish()
    return 0


def predict_files(
    classifier: Classifier, files: Sequence[Path], outputs: Outputs, strict: bool
) -> int:
    """Classify recordings, one event per file; return the number of unusable files.

    With ``strict``, the first unusable file raises ``UserError``.
    """
    predictor = classifier.predictor
    groups = [files[i : i + EVENTS_PER_BATCH] for i in range(0, len(files), EVENTS_PER_BATCH)]
    with EventWriter(predictor, outputs) as writer:
        # whole batches, so that a resumed run computes what the first would have
        todo = [group for group in groups if not writer.done.issuperset(map(event_key, group))]
        read = partial(
            read_event,
            rate_hz=predictor.rate_hz,
            n_samples=predictor.n_samples,
            max_gap_s=classifier.config.max_gap_s,
        )
        wanted = [file for group in todo for file in group]
        recordings = map_in_order(read, wanted, max_serial=MAX_SERIAL_FILES)
        with closing(prefetch(recordings, EVENTS_PER_BATCH)) as windows:
            for group in progress_bar(todo, desc="Predicting", unit="batch"):
                batch = [next(windows) for _ in group]
                broken = next((window for window in batch if window.recording is None), None)
                if strict and broken:
                    raise UserError(f"{broken.file}: {broken.reason}")
                writer.write(list(classifier.classify_windows(batch)))
    return writer.finish()


def predict_data(
    classifier: Classifier, data: "Source", source: str, outputs: Outputs, strict: bool
) -> int:
    """Find events in continuous recordings and classify them; return the number of unusable files.

    ``source`` is the name of the recordings. With ``strict``, an unusable file raises
    ``UserError``.
    """
    with EventWriter(classifier.predictor, outputs) as writer:
        for batch in classifier.scan(data, source, writer.trigger_times):
            writer.write(batch)
            if strict and data.unusable:
                break
        for path, reason in data.unusable.items():
            if strict:
                raise UserError(f"{path}: {reason}")
            if event_key(path) not in writer.done:
                unusable = EventWindow(str(path), None, reason)
                writer.write(list(classifier.classify_windows([unusable])))
    probabilities = classifier.annotate_data(data) if outputs.annotate is not None else None
    return writer.finish(data.covered_ns, probabilities)
