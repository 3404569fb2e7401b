"""The Python interface to a trained classifier, for ObsPy streams; predict.py uses it, too.

Importing this file imports neither PyTorch nor ObsPy.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prediction.catalogue import build_catalogue
from prediction.events import Event, EventWindow
from prediction.predict_config import PredictConfig
from prediction.tables import write_events
from utils.checkpoints import CheckpointError, load_plain
from utils.config import ConfigError, build_config
from utils.errors import UserError
from utils.parallel import prefetch

if TYPE_CHECKING:
    from obspy import Stream
    from obspy.core.event import Catalog

    from models.event_network import EventNetwork
    from prediction.continuous.continuous_data import Source
    from prediction.continuous.trigger import EventFinder
    from prediction.predictor import Classified, Predictor

EVENTS_PER_BATCH = 16
PACKAGED = {"demo": Path(__file__).parent.parent / "docs" / "demo_model" / "classifier.ckpt"}


class Classifier:
    """Classify events, find them in continuous recordings, or follow probabilities over time.

    ``print(classifier)`` says what the model knows.

    >>> import obspy
    >>> from prediction import Classifier
    >>> classifier = Classifier.load("demo")
    >>> stream = obspy.read("docs/example/rockfall.mseed")
    >>> event = classifier.classify(stream)[0]
    >>> event.class_name, event.sensors, event.review
    ('Rockfall', 24, False)
    """

    def __init__(self, predictor: "Predictor", name: str):
        self.predictor, self.name = predictor, name
        self.class_names = predictor.class_names
        self.config = predictor.config

    @classmethod
    def load(
        cls, checkpoint: str | Path, config: PredictConfig | None = None, **settings: Any
    ) -> "Classifier":
        """Load a trained classifier.

        Arguments:
            checkpoint: ``checkpoints/last.ckpt`` of a run of finetune.py or
                original_implementation/train.py, or ``demo``.
            config: a whole configuration of predict.py; instead of ``settings``.
            settings: keys of configs/predict.yaml.

        Raises ``CheckpointError`` and ``ConfigError``, which say what is wrong.

        >>> Classifier.load("demo", ensemble="usable", trigger={"channels": 4}).class_names[1]
        'Regional'
        """
        if config is not None and settings:
            raise ConfigError(
                f"Classifier.load: found config and {', '.join(settings)}; give one of both, or "
                "set the keys in config"
            )
        config = config or build_config(settings, PredictConfig, "Classifier.load")
        from prediction.predictor import Predictor, choose_device

        model, fingerprint = load_classifier(checkpoint)
        predictor = Predictor(model, fingerprint, config, choose_device(config))
        return cls(predictor, str(checkpoint))

    def __str__(self) -> str:
        from prediction.about import describe

        return describe(self.predictor, self.name)

    def classify(self, recordings: Any, sampling_rate_hz: float | None = None) -> "Events":
        """Classify recordings that hold one event each, beginning like those of the training.

        Arguments:
            recordings: an ObsPy stream, a list of streams, or an array (S, T) in recorder units.
            sampling_rate_hz: of an array.

        Returns an event per recording; one that cannot be used says why in ``error``. Raises
        ``UserError`` for an array of another shape or without a rate.

        >>> import numpy as np
        >>> noise = np.random.default_rng(0).normal(0, 20, (3, 16_000))
        >>> classifier = Classifier.load("demo")
        >>> len(classifier.classify(noise, sampling_rate_hz=1000))
        1
        """
        windows = [
            self._window(number, recording, sampling_rate_hz)
            for number, recording in enumerate(_one_by_one(recordings), start=1)
        ]
        return self._events(self.classify_windows(windows))

    def detect(self, stream: "Stream") -> "Events":
        """Find events in a continuous stream by the trigger, and classify them.

        Arguments:
            stream: an ObsPy stream of any length; gaps are allowed.

        Returns the events in order of time.

        >>> import obspy
        >>> classifier = Classifier.load("demo", trigger={"thr_on": 3.0, "lta_s": 2.0})
        >>> events = classifier.detect(obspy.read("docs/example/rockfall.mseed"))
        >>> [event.trigger_time[:17] for event in events]
        ['2020-06-01T12:00:']
        """
        from prediction.continuous.continuous_data import StreamData

        if not any(trace.stats.npts for trace in stream):
            return self._events([])
        batches = self.scan(StreamData(stream), "stream")
        return self._events(event for batch in batches for event in batch)

    def annotate(self, stream: "Stream", stride_s: float = 1.0) -> "Stream":
        """Return the probability of each class over time, one trace per class.

        A window of the model's length moves over the stream; its probabilities are written where
        the trigger of an event would be.

        Arguments:
            stream: an ObsPy stream of any length.
            stride_s: by how much the window moves, in s.

        Returns an ObsPy stream; ``stats.class_name`` of a trace is its class.

        >>> import obspy
        >>> stream = obspy.read("docs/example/rockfall.mseed")
        >>> [trace.stats.class_name for trace in Classifier.load("demo").annotate(stream)][:2]
        ['Noise', 'Regional']
        """
        from prediction.continuous.continuous_data import StreamData

        if not any(trace.stats.npts for trace in stream):
            return type(stream)()
        return self.annotate_data(StreamData(stream), stride_s)

    def annotate_data(self, data: "Source", stride_s: float | None = None) -> "Stream":
        """Do as ``annotate``, for recordings in files; by default ``annotate_stride_s`` is used."""
        from prediction.annotate import annotate

        if stride_s is None:
            stride_s = self.config.annotate_stride_s
        return annotate(data, self.predictor, stride_s)

    def scan(
        self, data: "Source", source: str, known: Collection[str] = ()
    ) -> Iterator[list["Classified"]]:
        """Yield the events in continuous recordings in batches, in order of time.

        ``source`` is written into the events as their file. ``known`` are trigger times of events
        that an interrupted run has found; batches of only such events are left out.
        """
        from prediction.continuous.trigger import find_events, time_ns

        predictor, known = self.predictor, set(known)
        chunks = find_events(
            data,
            source,
            self.config.trigger,
            self.config.chunk_s,
            predictor.pre_trigger_s,
            predictor.duration_s,
            predictor.rate_hz,
            self.config.max_gap_s,
            sorted(map(time_ns, known)),
        )
        for windows in prefetch(chunks):
            for start in range(0, len(windows), EVENTS_PER_BATCH):
                batch = windows[start : start + EVENTS_PER_BATCH]
                if not known.issuperset(window.key for window in batch):
                    yield predictor.classify(batch)

    def finder(self, data: "Source", source: str, known_ns: list[int]) -> "EventFinder":
        """Return a search for events, piece by piece; ``known_ns``: triggers found before.

        ``source`` is written into the events as their file.
        """
        from prediction.continuous.trigger import EventFinder

        return EventFinder(
            data,
            source,
            self.config.trigger,
            self.predictor.pre_trigger_s,
            self.predictor.duration_s,
            self.predictor.rate_hz,
            self.config.max_gap_s,
            known_ns,
        )

    def classify_windows(self, windows: Sequence[EventWindow]) -> Iterator["Classified"]:
        """Classify any number of events, a batch at a time."""
        for start in range(0, len(windows), EVENTS_PER_BATCH):
            yield from self.predictor.classify(windows[start : start + EVENTS_PER_BATCH])

    def _events(self, classified: Iterable["Classified"]) -> "Events":
        return Events((each.event for each in classified), self.class_names, self.config)

    def _window(self, number: int, recording: Any, sampling_rate_hz: float | None) -> EventWindow:
        """Return what was given as an event to classify, or the reason why it cannot be used."""
        from preprocessing.recordings import join_channels
        from preprocessing.traces import RecordingError

        name = f"event {number}"
        is_array = isinstance(recording, np.ndarray)
        traces = _traces(recording, sampling_rate_hz) if is_array else list(recording)
        try:
            joined = join_channels(name, traces, self.predictor.rate_hz, self.config.max_gap_s)
        except RecordingError as error:
            return EventWindow(name, None, str(error).removeprefix(f"{name}: "))
        return EventWindow(name, replace(joined, start_time="") if is_array else joined)


class Events(list[Event]):
    """A list of events that can be written as a table or made an ObsPy catalogue."""

    def __init__(self, events: Iterable[Event], class_names: Sequence[str], config: PredictConfig):
        super().__init__(events)
        self.class_names, self.config = tuple(class_names), config

    def to_csv(self, path: str | Path, per_sensor: bool = False) -> None:
        """Write the table of predict.py: a row per event, or with ``per_sensor`` per channel.

        An existing file is replaced.
        """
        write_events(Path(path), self, self.class_names, per_sensor)

    def to_catalog(self) -> "Catalog":
        """Return an ObsPy catalogue; events without a class or a time are left out."""
        return build_catalogue(self, self.config)


def _one_by_one(recordings: Any) -> list[Any]:
    from obspy import Stream, Trace

    if isinstance(recordings, Trace):
        return [Stream([recordings])]
    if isinstance(recordings, Stream | np.ndarray):
        return [recordings]
    return list(recordings)


def _traces(waveforms: np.ndarray, sampling_rate_hz: float | None) -> list[Any]:
    """Return the rows of an array (S, T) as ObsPy traces without names."""
    from obspy import Trace

    if waveforms.ndim != 2:
        raise UserError(
            f"classify: found an array of shape {waveforms.shape}; should be (sensors, samples)"
        )
    if not sampling_rate_hz:
        raise UserError("classify: an array needs its sampling_rate_hz")
    header = {"sampling_rate": sampling_rate_hz}
    return [Trace(np.ascontiguousarray(row), header) for row in waveforms]


def load_classifier(path: str | Path) -> tuple["EventNetwork", str]:
    """Load a classifier, in evaluation mode on the CPU, and the file's SHA-256 (8 digits).

    ``path`` may be the name of a packaged model, a key of ``PACKAGED``. No code in the file is run.
    Raises ``CheckpointError`` for anything but a checkpoint of finetune.py or
    original_implementation/train.py.
    """
    from models.event_network import EventNetwork
    from original_implementation.stacking import StackedTraceNetwork

    path = Path(path)
    if not path.is_file():
        path = PACKAGED.get(str(path), path)
    if not path.is_file():
        names = ", ".join(PACKAGED)
        raise CheckpointError(f"--ckpt: no such file: {path} (packaged models: {names})")
    content = load_plain(path)
    checkpoint = content if isinstance(content, dict) else {}
    if "class_names" not in _section(checkpoint, "hyper_parameters"):
        what = "an encoder file" if "model_state_dict" in checkpoint else "no trained classifier"
        raise CheckpointError(
            f"{path}: {what}; give the checkpoints/last.ckpt of a run of finetune.py or "
            "original_implementation/train.py"
        )
    stacked = "backbone_with_clf_type" in _section(checkpoint, "config")
    try:
        kind = StackedTraceNetwork if stacked else EventNetwork
        model = kind.from_checkpoint(checkpoint, path)
    except CheckpointError:
        raise
    except Exception as error:  # wrong values in the checkpoint can raise almost any error
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: does not fit this version ({reason})") from error
    if not model.n_samples:
        raise CheckpointError(f"{path}: was saved without the length of its events; train it again")
    with open(path, "rb") as file:
        return model, hashlib.file_digest(file, "sha256").hexdigest()[:8]


def _section(checkpoint: dict[str, Any], key: str) -> dict[str, Any]:
    section = checkpoint.get(key)
    return section if isinstance(section, dict) else {}
