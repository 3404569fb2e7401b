"""What predict.py does: classify files, continuous recordings or an SDS archive into a table."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from prediction.classifier import EVENTS_PER_BATCH, Classifier
from prediction.continuous.continuous_data import ContinuousData, Source
from prediction.continuous.sds import Pattern, SdsArchive, parse_streams
from prediction.continuous.tune import read_known_times, tune, write_tuning
from prediction.monitoring.alarms import Alarms
from prediction.monitoring.follower import Follower, FollowState, load_state, state_path
from prediction.monitoring.growing_archive import GrowingArchive
from prediction.outputs import EventWriter, Outputs
from prediction.reading import Item, file_key, read_item
from utils.cli import stop_at_signals
from utils.errors import Interrupted, UserError
from utils.parallel import ahead, keep_freed_memory, map_in_order
from utils.progress import progress_bar

log = logging.getLogger(__name__)
MAX_SERIAL_FILES = 32  # starting processes costs more than reading these


def run(classifier: Classifier, arguments: Namespace) -> int:
    """Do what the command line of predict.py asks; return the exit status.

    It is 1 if some recordings could not be used.
    """
    outputs = Outputs(
        arguments.out,
        form=arguments.format,
        per_sensor=arguments.per_sensor,
        quakeml=arguments.quakeml,
        scml=arguments.scml,
        plots=arguments.plots,
        annotate=arguments.annotate,
        resume=arguments.resume,
    )
    keep_freed_memory()
    stop_at_signals("go on by the same command" + " with --resume" * (not arguments.follow))
    if arguments.tune:
        return tune_trigger(classifier, arguments, outputs)
    if arguments.follow:
        return follow_archive(classifier, arguments, outputs)
    if arguments.sds is not None:
        archive = SdsArchive(arguments.sds, *_span_of_archive(arguments))
        source, strict = str(arguments.sds), arguments.strict
        return int(predict_data(classifier, archive, source, outputs, strict) > 0)
    predict = predict_continuous if arguments.continuous else predict_files
    return int(predict(classifier, arguments.recordings, outputs, arguments.strict) > 0)


def tune_trigger(classifier: Classifier, arguments: Namespace, outputs: Outputs) -> int:
    """Count the events that a grid of triggers finds in continuous recordings; return 0."""
    known_ns = None if arguments.known_times is None else read_known_times(arguments.known_times)
    if outputs.out.exists():
        raise UserError(f"{outputs.out}: exists; choose another name or remove it")
    source: Source = (
        ContinuousData(list_files(arguments.recordings, outputs))
        if arguments.sds is None
        else SdsArchive(arguments.sds, *_span_of_archive(arguments))
    )
    config = classifier.config
    found = tune(classifier.finder(source, []), config.chunk_s)
    write_tuning(found, source, known_ns, config.trigger, outputs.out)
    return 0


def _span_of_archive(arguments: Namespace) -> tuple[list[Pattern], int | None, int | None]:
    """Return the channels, start and end (ns since 1970, None: open) that were asked for."""
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


def follow_archive(classifier: Classifier, arguments: Namespace, outputs: Outputs) -> int:
    """Follow an SDS archive until ``--to``, or until the process is stopped; return 0.

    An existing table is continued.
    """
    patterns, from_ns, to_ns = _span_of_archive(arguments)
    params = classifier.config.follow
    # without its table, what was found is gone: it is searched again
    state = load_state(state_path(outputs.out)) if outputs.out.exists() else FollowState()
    archive = GrowingArchive(arguments.sds, patterns, sizes=state.sizes)
    alarms = Alarms(arguments.on_event, params.on_event_timeout_s, params.shell)
    with EventWriter(classifier.predictor, replace(outputs, resume=True)) as writer:
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
    classifier: Classifier, paths: Sequence[str], outputs: Outputs, strict: bool
) -> int:
    """Classify recordings, one event per file; return the number of unusable files.

    With ``strict``, the first unusable file raises ``UserError``.
    """
    files, predictor = list_files(paths, outputs), classifier.predictor
    groups = [files[i : i + EVENTS_PER_BATCH] for i in range(0, len(files), EVENTS_PER_BATCH)]
    with EventWriter(predictor, outputs) as writer:
        # whole batches, so that a resumed run computes what the first would have
        todo = [group for group in groups if not writer.done.issuperset(map(file_key, group))]
        read = partial(
            read_item,
            rate_hz=predictor.rate_hz,
            n_samples=predictor.n_samples,
            max_gap_s=classifier.config.max_gap_s,
        )
        wanted = [file for group in todo for file in group]
        recordings = map_in_order(read, wanted, max_serial=MAX_SERIAL_FILES)
        with closing(ahead(recordings, EVENTS_PER_BATCH)) as items:
            for group in progress_bar(todo, desc="Predicting", unit="batch"):
                batch = [next(items) for _ in group]
                broken = next((item for item in batch if item.recording is None), None)
                if strict and broken:
                    raise UserError(f"{broken.file}: {broken.reason}")
                writer.write(list(classifier.classify_items(batch)))
    return writer.finish()


def predict_continuous(
    classifier: Classifier, paths: Sequence[str], outputs: Outputs, strict: bool
) -> int:
    """Find events in continuous recordings and classify them; return the number of unusable files.

    With ``strict``, an unusable file raises ``UserError``.
    """
    data = ContinuousData(list_files(paths, outputs))
    return predict_data(classifier, data, ", ".join(paths[:3]), outputs, strict)


def predict_data(
    classifier: Classifier, data: Source, source: str, outputs: Outputs, strict: bool
) -> int:
    """Do as ``predict_continuous`` for recordings of any ``Source``; ``source`` is its name."""
    with EventWriter(classifier.predictor, outputs) as writer:
        for batch in classifier.scan(data, source, writer.trigger_times):
            writer.write(batch)
            if strict and data.unusable:
                break
        for path, reason in data.unusable.items():
            if strict:
                raise UserError(f"{path}: {reason}")
            if file_key(path) not in writer.done:
                unusable = Item(file_key(path), str(path), None, reason)
                writer.write(list(classifier.classify_items([unusable])))
    probabilities = classifier.annotate_data(data) if outputs.annotate is not None else None
    covered = data.covered_ns if isinstance(data, ContinuousData) else (data.start_ns, data.end_ns)
    return writer.finish(covered, probabilities)


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
