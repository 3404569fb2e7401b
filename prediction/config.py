"""Every key of the configuration of predict.py."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from utils.config import Section
from utils.schema import Count, Integer, Number, Positive, Seconds, Share


class TriggerParams(Section):
    """Hold the network trigger: STA/LTA above ``thr_on`` on so many channels within so many seconds."""

    sta_s: Positive = 0.5
    lta_s: Positive = 10.0
    thr_on: Annotated[Number, Field(gt=1)] = 4.0
    thr_off: Positive = 1.5
    channels: Count = 10
    within_s: Positive = 1.0
    highpass_hz: Positive = 2.0


class PredictConfig(Section):
    kind: ClassVar[str] = "predict"
    ensemble: Literal["all", "usable", "weighted"] = "all"
    error_rate: Share = 0.05
    min_confidence: Annotated[Number, Field(ge=0, le=1)] | None = None
    max_gap_s: Annotated[Seconds, Field(ge=0)] = 0.0
    gpu: Annotated[Integer, Field(ge=0)] | None = 0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    chunk_s: Annotated[Seconds, Field(ge=60)] = 600.0
    trigger: TriggerParams = TriggerParams()

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        trigger, found = self.trigger, []
        if trigger.lta_s < 2 * trigger.sta_s or trigger.thr_on * trigger.sta_s >= trigger.lta_s:
            found.append(
                f"trigger.lta_s: found {trigger.lta_s:g}; with sta_s {trigger.sta_s:g} the ratio cannot reach {trigger.thr_on:g}: "
                f"it stays below lta_s / sta_s = {trigger.lta_s / trigger.sta_s:g}"
            )
        if trigger.thr_off > trigger.thr_on:
            found.append(f"trigger.thr_off: found {trigger.thr_off:g}; it must not be above trigger.thr_on, {trigger.thr_on:g}")
        return found
