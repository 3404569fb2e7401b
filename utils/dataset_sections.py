"""Section ``dataset`` of training configurations: events, splits, spectrogram images."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, model_validator

from utils.config import Section
from utils.config_types import (
    ColumnName,
    Count,
    FilePath,
    Index,
    Integer,
    Number,
    Pattern,
    Positive,
    Seconds,
    Seed,
    Share,
    key,
)
from utils.names import AKNES_PRE_TRIGGER_S

NEED_ROOT = {
    "folder": "source folder needs a folder with <Class>/<recording>",
    "seisbench": "source seisbench needs the folder of a SeisBench dataset",
}
# sources of recordings of any network, and their defaults where those of Åknes do not suit
OWN_RECORDINGS = ("folder", "seisbench")
OWN_DEFAULTS = {"sampling_freq": None, "pre_trigger_s": None, "amplitude": "auto"}
SINGLE_IN_TRAINING = (
    "Train on one random channel per event and epoch; false: on all channels. `ssl`: only checked; "
    "pretraining always sees single channels, two random ones of each event."
)
SINGLE_IN_TEST = (
    "Test on one random channel per event, without an ensemble; false: on all channels. `ssl`: "
    "only checked, always true."
)


class DatasetParams(Section):
    """Keys of ``dataset`` that all three trainings have."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, values: Any) -> Any:
        """Fill in the defaults for recordings of another network than the one at Åknes."""
        if not isinstance(values, dict) or values.get("source") not in OWN_RECORDINGS:
            return values
        return {k: v for k, v in OWN_DEFAULTS.items() if k in cls.model_fields} | values

    source: Literal["aknes", "folder", "seisbench", "simulated"] = key(
        "aknes",
        "Where events come from: the public archive (downloaded), your own recordings in a folder "
        "per class, a SeisBench dataset, or simulated events.",
    )
    root: FilePath | None = key(
        None,
        "Folder of the recordings, of a SeisBench dataset or of a packed archive. "
        "`null`: data/aknes.",
    )
    label_column: ColumnName | None = key(
        None,
        "Column of a SeisBench dataset with the class of an event; no value: Unlabeled. "
        "`null`: source_type, or trace_category if there is none.",
    )
    group_by: ColumnName | None = key(
        None,
        "Column of a SeisBench dataset: rows with the same value are one event and become its "
        "channels. `null`: source_id, or event_id; without both, each row is an event.",
    )
    n_simulated: Annotated[Integer, Field(ge=100)] | None = key(
        None,
        "Number of simulated events; `null`: 3429, as many as the public archive has.",
    )
    simulation_seed: Seed | None = key(None, "Seed of the simulated events; `null`: 0.")
    sampling_freq: Annotated[Positive, Field(le=1e6)] | None = key(
        1000.0,
        "Sampling rate of the packed archive in Hz; channels at another rate are resampled. "
        "`null`, the default for sources `folder` and `seisbench`: the most common rate of their "
        "channels.",
    )
    duration_s: Annotated[Seconds, Field(gt=0)] | None = key(
        None,
        "Length of events in the packed archive in s: longer ones are cut, shorter ones padded at "
        "the end. `null`: the median length of the recordings.",
    )
    max_gap_s: Annotated[Seconds, Field(ge=0)] = key(
        0.0,
        "A channel with a longer gap, in s, is left out; shorter gaps are interpolated.",
    )
    skip_unreadable: StrictBool = key(
        False,
        "Leave out files that cannot be used, instead of stopping at the first.",
    )
    split: Literal["nested", "random", "by_day", "by_group", "by_time", "given"] = key(
        "nested",
        "How events are divided. `nested`: one test set for every training share, small training "
        "sets within larger ones. `random`: as in the paper. `by_day`: no recording day on both "
        "sides. `by_group`: no group on both sides. `by_time`: train on the past, test on the "
        "future. `given`: train and test of the column split of a SeisBench dataset.",
    )
    group_column: ColumnName | None = key(
        None,
        "For split `by_group`: column of the archive's metadata.csv with the group of an event. "
        "`null`: trace_name, which begins with the class and the name of the file.",
    )
    group_pattern: Pattern | None = key(
        None,
        "For split `by_group`: the part of the column that is the group, such as a station or a "
        "site: what the parentheses of this regular expression match. `null`: all of it.",
    )
    train_data_ratio: Share = key(
        0.8,
        "Training share of the labelled events (`ssl`: of all events but the excluded ones). At "
        "most 1 together with `test_data_ratio`.",
    )
    test_data_ratio: Share = key(0.2, "Test share of the labelled events.")
    train_test_split_rand_seed: Seed = key(0, "Seed of the division into training and test events.")
    batch_size: Annotated[Integer, Field(ge=2)] = key(
        64,
        "Events per step, over all GPUs together. Fewer training events are one batch; pretraining "
        "refuses that.",
    )
    num_workers: Index = key(0, "Processes that load events; not used with `preload` device.")
    preload: Literal["none", "ram", "device"] = key(
        "none",
        "Keep all waveforms in memory: of the machine (`ram`) or of the GPU (`device`).",
    )
    is_ssl: StrictBool = key(False, "Only checked: true for sslearn.py, false for the others.")
    amplitude: Literal["counts", "auto"] = key(
        "counts",
        "Units of the waveforms. `counts`: as they are, as in the paper; log10(S + 1) then suits "
        "recorder counts like those at Åknes. `auto`, the default for sources `folder` and "
        "`seisbench`: multiplied by one factor for the whole archive, which gives their noise the "
        "level of the noise at Åknes; it is stored in the checkpoint, which then needs recordings "
        "in the same units.",
    )
    highpass_hz: Positive | None = key(
        None,
        "Corner of a high-pass filter before the spectrogram, in Hz, against microseism and drift: "
        "zero-phase, a Butterworth filter of order 4 forwards and backwards. It is stored in the "
        "checkpoint and acts on all that the model sees. `null`: none, as in the paper.",
    )
    nperseg: Annotated[Integer, Field(ge=8)] = key(
        80,
        "Samples per segment of the spectrogram: 80 are 0.08 s at 1000 Hz.",
    )
    log_scale: StrictBool = key(True, "Take log10(S + 1) of the spectrogram S.")
    minmax_scale: StrictBool = key(True, "Scale each image to values from 0 to 1.")
    resize: StrictBool = key(
        True,
        "Resize images; false keeps their native size, 41 x 228 pixels for 16 s at 1000 Hz.",
    )
    resize_size: Annotated[Integer, Field(ge=8)] = key(
        128,
        "Rows of resized images, in pixels; their width follows in proportion.",
    )

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        found = []
        if self.train_data_ratio + self.test_data_ratio > 1 + 1e-9:
            found.append(
                f"dataset.train_data_ratio: {self.train_data_ratio} and test_data_ratio "
                f"{self.test_data_ratio} exceed 1 together"
            )
        return found + self._against_the_source() + self._against_the_split()

    def _against_the_source(self) -> list[str]:
        """Return messages on keys that do not suit the source of the events."""
        found = []
        if self.source in NEED_ROOT and not self.root:
            found.append(f"dataset.root: missing; {NEED_ROOT[self.source]}")
        if self.source != "seisbench":
            keys = ("label_column", "group_by")
            found += self.without_meaning("dataset", keys, "for source seisbench only")
        if self.source != "simulated":
            keys = ("n_simulated", "simulation_seed")
            return found + self.without_meaning("dataset", keys, "for source simulated only")
        of_files = ("root", "max_gap_s", "skip_unreadable")
        found += self.without_meaning("dataset", of_files, "simulated events need none")
        if self.sampling_freq not in (None, 1000) or self.duration_s not in (None, 16):
            found.append(
                "dataset.sampling_freq: simulated events have 1000 Hz and 16 s; "
                "do not set it or duration_s"
            )
        return found

    def _against_the_split(self) -> list[str]:
        """Return messages on keys that do not suit the split."""
        found = []
        if self.split == "random":
            why = "split random draws both sets together"
            found += self.without_meaning("dataset", ["label_draw_seed"], why)
        if self.split == "given":
            why = "split given has its own test events"
            found += self.without_meaning("dataset", ["test_data_ratio"], why)
        if self.split != "by_group":
            keys = ("group_column", "group_pattern")
            found += self.without_meaning("dataset", keys, "for split by_group only")
        elif not (self.group_column or self.group_pattern):
            found.append("dataset.split: by_group needs dataset.group_column or group_pattern")
        return found


class SSLDataset(DatasetParams):
    """Events of a pretraining."""

    batch_size: Annotated[Integer, Field(ge=2)] = 128
    is_ssl: StrictBool = True
    exclude_test_events: StrictBool = key(
        True,
        "Keep the test events of the classifiers out of pretraining; the paper did not.",
    )
    # published configurations have these two
    return_single_spectrogram_train: StrictBool = key(True, SINGLE_IN_TRAINING)
    return_single_spectrogram_test: StrictBool = key(True, SINGLE_IN_TEST)

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        return super().contradictions() + [
            f"dataset.{key}: found False; pretraining always sees single channels, two random ones "
            "of each event. Remove the key, or set it to true"
            for key in ("return_single_spectrogram_train", "return_single_spectrogram_test")
            if not getattr(self, key)
        ]


class LabelledDataset(DatasetParams):
    """Events of a classifier's training."""

    train_events_per_class: Count | None = key(
        None,
        "Use only so many training events of each class, to see what few labels give. `null`: all.",
    )
    label_draw_seed: Seed | None = key(
        None,
        "Seed of the draw of training events: other labels, same test events. "
        "`null`: `train_test_split_rand_seed`. Not for split `random`.",
    )
    pre_trigger_s: Positive | None = key(
        AKNES_PRE_TRIGGER_S,
        "Time from the beginning of an event to its trigger, in s. Noise is measured in it, and "
        "predict.py begins its windows of continuous recordings so long before a trigger. `null`, "
        "the default for sources `folder` and `seisbench`: the beginning of each event is found in "
        "its waveforms, noise is measured in its quietest tenth, and windows begin the median time "
        "before a trigger.",
    )
    calibration_ratio: Annotated[Number, Field(ge=0, lt=1)] = key(
        0.0,
        "Share of the training events held out to calibrate confidence. 0: no calibration.",
    )


class ClassifierDataset(LabelledDataset):
    """Events of finetune.py: how many sensors of an event count."""

    return_single_spectrogram_train: StrictBool = key(True, SINGLE_IN_TRAINING)
    return_single_spectrogram_test: StrictBool = key(False, SINGLE_IN_TEST)
