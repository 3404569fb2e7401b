"""Speed of the CompactEncoder against the ResNet: steps and evaluation on native images."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from benchmarks.network_rows import (
    classifier,
    evaluation,
    optimiser_step,
    precisions,
    supervised_loss,
)
from benchmarks.table import Row
from benchmarks.timing import alternate, ratio
from benchmarks.work import Size, Work
from models.event_classifier import EventClassifier

COMPACT = "CompactEncoder"
N_EVALUATED = 16  # events at most: one would be too short to time


def native_classifier(backbone: str, **options) -> EventClassifier:
    """Build a classifier of images of native size, 41 x 228."""
    return classifier(backbone, spectrogram={"resize_size": None}, **options)


def compact_rows(work: Work) -> Iterator[Row]:
    """Measure optimiser steps on prepared images, then evaluation from the archive's file."""
    size, n_events = work.size, min(N_EVALUATED, len(work.archive))
    step = f"supervised step, {COMPACT}, batch {size.supervised_batch}, native 41 x 228"
    loss = supervised_loss(size, 41, 228)
    for precision in precisions():
        make = partial(optimiser_step, loss=loss, precision=precision)
        yield _against_resnet(f"{step}, {precision}", size, make, "{:.3g} s".format)
    n_sensors = work.archive.live.shape[1]
    ensemble = f"ensemble evaluation, {COMPACT}, {n_sensors} sensors, native 41 x 228"
    data = work.dataset("all", in_memory=False)
    for precision in precisions():
        evaluate = partial(evaluation, data=data, n_events=n_events, precision=precision)
        yield _against_resnet(f"{ensemble}, {precision}", size, evaluate, partial(_rate, n_events))


def _rate(n_events: int, seconds: float) -> str:
    return f"{n_events / seconds:.3g} events/s"


def _against_resnet(
    what: str,
    size: Size,
    make: Callable[[EventClassifier], Callable[[], object]],
    show: Callable[[float], str],
) -> Row:
    """Compare both networks; ``show`` formats the seconds of a round."""
    resnet = size.classifier_backbone
    ways = {backbone: make(native_classifier(backbone)) for backbone in (resnet, COMPACT)}
    seconds = alternate(ways, size.n_rounds, size.rounds_s)
    shown = {backbone: show(median(seconds[backbone])) for backbone in ways}
    factor = ratio(seconds[resnet], seconds[COMPACT])
    return Row(what, f"{resnet}: {shown[resnet]}", shown[COMPACT], f"{factor:.3g} x", "")
