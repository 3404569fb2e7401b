"""Every key of the configuration of predict.py."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from utils.config import Section
from utils.config_types import Count, Index, Number, Positive, Seconds, Share, key


class TriggerParams(Section):
    """Coincidence trigger: STA/LTA above ``thr_on`` on enough channels within ``within_s``."""

    sta_s: Positive = key(0.5, "Short window of STA/LTA, in s.")
    lta_s: Positive = key(10.0, "Long window of STA/LTA, in s; at least twice `sta_s`.")
    thr_on: Annotated[Number, Field(gt=1)] = key(4.0, "STA/LTA above which a channel triggers.")
    thr_off: Positive = key(1.5, "STA/LTA below which a channel can trigger again.")
    channels: Count = key(10, "Number of channels that must trigger together.")
    within_s: Positive = key(1.0, "How long the trigger of a channel counts, in s.")
    highpass_hz: Positive = key(2.0, "Corner of the highpass filter before the trigger, in Hz.")


class PredictConfig(Section):
    kind: ClassVar[str] = "predict"
    ensemble: Literal["all", "usable", "weighted"] = key(
        "all",
        "Sensors that count: `all` living ones, those that show the event over their noise "
        "(`usable`), or all by the logarithm of their signal-to-noise ratio (`weighted`).",
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
        "auto", "Number format of the network; `auto`: bf16-mixed where the device has it."
    )
    chunk_s: Annotated[Seconds, Field(ge=60)] = key(
        600.0,
        "How much of continuous recordings is in memory at once, in s.",
    )
    trigger: TriggerParams = key(
        TriggerParams(),
        "Event detection in continuous recordings (coincidence trigger).",
    )

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        trigger, found = self.trigger, []
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
