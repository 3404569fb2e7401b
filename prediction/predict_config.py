"""Every key of the configuration of predict.py."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool

from utils.config import Section
from utils.config_types import (
    ClassName,
    Count,
    Index,
    Name,
    Number,
    Positive,
    Seconds,
    Share,
    key,
)

# QuakeML 1.2, enumeration EventType; a test compares it with ObsPy's
QUAKEML_TYPES = (
    "not existing",
    "not reported",
    "earthquake",
    "anthropogenic event",
    "collapse",
    "cavity collapse",
    "mine collapse",
    "building collapse",
    "explosion",
    "accidental explosion",
    "chemical explosion",
    "controlled explosion",
    "experimental explosion",
    "industrial explosion",
    "mining explosion",
    "quarry blast",
    "road cut",
    "blasting levee",
    "nuclear explosion",
    "induced or triggered event",
    "rock burst",
    "reservoir loading",
    "fluid injection",
    "fluid extraction",
    "crash",
    "plane crash",
    "train crash",
    "boat crash",
    "other event",
    "atmospheric event",
    "sonic boom",
    "sonic blast",
    "acoustic noise",
    "thunder",
    "avalanche",
    "snow avalanche",
    "debris avalanche",
    "hydroacoustic event",
    "ice quake",
    "slide",
    "landslide",
    "rockslide",
    "meteorite",
    "volcanic eruption",
)
# mypy cannot know the names: they stand in one place only
QuakemlType = Annotated[Literal[*QUAKEML_TYPES], "type of QuakeML"]  # type: ignore[valid-type]
NetworkCode = Annotated[str, Field(pattern="^[A-Za-z0-9]{1,2}$"), "1 or 2 letters or digits"]
StationCode = Annotated[str, Field(pattern="^[A-Za-z0-9]{1,5}$"), "1 to 5 letters or digits"]
# keys that change no number in the tables
OUTPUT_KEYS = {"gpu", "max_plots", "annotate_stride_s", "follow", "event_types", "catalogue"}


def _not_weighted(value: object) -> object:
    if value == "weighted":
        raise ValueError("weighted was removed: never clearly better than all; use all or usable")
    return value


class TriggerParams(Section):
    """Coincidence trigger: STA/LTA above ``thr_on`` on enough channels within ``within_s``."""

    sta_s: Positive = key(0.5, "Short window of STA/LTA, in s.")
    lta_s: Positive = key(10.0, "Long window of STA/LTA, in s; at least twice `sta_s`.")
    thr_on: Annotated[Number, Field(gt=1)] = key(4.0, "STA/LTA above which a channel triggers.")
    thr_off: Positive = key(1.5, "STA/LTA below which a channel can trigger again.")
    channels: Count = key(10, "Number of channels that must trigger together.")
    within_s: Positive = key(1.0, "How long a channel counts as triggered after its onset, in s.")
    highpass_hz: Positive = key(2.0, "Corner of the highpass filter before the trigger, in Hz.")


class FollowParams(Section):
    """How `--follow` waits for data, and runs the command of `--on-event`."""

    latency_s: Positive = key(
        30.0,
        "How long late data, gaps and silent stations hold up the others, in s. Data that come "
        "later are searched once more.",
    )
    on_event_timeout_s: Positive = key(
        10.0, "Longest time that the command of `--on-event` may take, in s."
    )
    shell: StrictBool = key(
        False, "Run the command of `--on-event` by the shell, with pipes and variables."
    )


class CatalogueParams(Section):
    """What QuakeML and SeisComP's XML say of who has made the events, and where."""

    agency: Name | None = key(None, "Agency that answers for the events, for example NORSAR.")
    author: Annotated[str, Field(min_length=1)] | None = key(
        None, "Author of the events. `null`: this program and the fingerprint of its model."
    )
    network: NetworkCode | None = key(
        None,
        "Network code of channels that have none, and of probability traces (`--annotate`).",
    )
    station: StationCode = key("PROB", "Station code of probability traces (`--annotate`).")
    latitude: Annotated[Number, Field(ge=-90, le=90)] | None = key(
        None,
        "Latitude of the slope or network. With `longitude`, every event gets an origin there, "
        "without which SeisComP does not show events; events are not located.",
    )
    longitude: Annotated[Number, Field(ge=-180, le=180)] | None = key(
        None, "Longitude of the slope or network; see `latitude`."
    )


class PredictConfig(Section):
    """Every key of the configuration of predict.py."""

    kind: ClassVar[str] = "predict"
    ensemble: Annotated[Literal["all", "usable"], BeforeValidator(_not_weighted)] = key(
        "all",
        "Sensors that count: `all` that are not constant, or those that show the event over their "
        "noise (`usable`).",
    )
    error_rate: Share = key(
        0.05,
        "Wanted share of errors among the events that are not flagged for review.",
    )
    min_confidence: Annotated[Number, Field(ge=0, le=1)] | None = key(
        None,
        "Flag events below this confidence for review. `null`: the threshold that the model's "
        "calibration gives for `error_rate`; without calibration, no threshold.",
    )
    max_gap_s: Annotated[Seconds, Field(ge=0)] = key(
        0.0, "A channel with a longer gap, in s, is left out; shorter gaps are interpolated."
    )
    gpu: Index | None = key(0, "Which GPU; `null`: the CPU. Without GPUs the CPU is used.")
    precision: Literal["auto", "32-true", "bf16-mixed"] = key(
        "auto",
        "Number format of the network; `auto`: bf16-mixed where the device is faster with it.",
    )
    chunk_s: Annotated[Seconds, Field(ge=60)] = key(
        600.0,
        "How much of continuous recordings is in memory at once, in s.",
    )
    max_plots: Count | None = key(
        200,
        "Largest number of event pictures with `--plots`: the first ones; each takes up to "
        "a second. `null`: of all events.",
    )
    annotate_stride_s: Positive = key(
        1.0, "Time between two samples of the probability traces of `--annotate`, in s."
    )
    trigger: TriggerParams = key(
        TriggerParams(),
        "Event detection in continuous recordings (coincidence trigger).",
    )

    follow: FollowParams = key(
        FollowParams(), "Following an archive to which data are added (`--follow`)."
    )
    event_types: dict[ClassName, QuakemlType] = key(
        {"Regional": "earthquake", "Rockfall": "rockslide"},
        "QuakeML event type of a class. Classes that are QuakeML types themselves (`explosion`, "
        "`Ice_Quake`) need no entry; others are `other event`.",
    )
    catalogue: CatalogueParams = key(
        CatalogueParams(), "Who has made the events, for QuakeML and SeisComP's XML."
    )

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        trigger, found = self.trigger, []
        if (self.catalogue.latitude is None) != (self.catalogue.longitude is None):
            found.append("catalogue: latitude and longitude belong together; set both or none")
        if trigger.lta_s < 2 * trigger.sta_s or trigger.thr_on * trigger.sta_s >= trigger.lta_s:
            found.append(
                f"trigger.lta_s: found {trigger.lta_s:g}; STA/LTA stays below lta_s / sta_s = "
                f"{trigger.lta_s / trigger.sta_s:g} and cannot reach thr_on, {trigger.thr_on:g}"
            )
        if trigger.thr_off > trigger.thr_on:
            found.append(
                f"trigger.thr_off: found {trigger.thr_off:g}; "
                f"it must not be above trigger.thr_on, {trigger.thr_on:g}"
            )
        return found
