"""Speed of the networks: optimiser steps and evaluation against the published implementation.

Steps are also compared with the peak speed of the hardware.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models.vnibcreg
from benchmarks import published
from benchmarks.timing import (
    Row,
    alternate,
    compare,
    count_flops,
    large_convolution,
    own_process,
    ratio,
    take_turns,
)
from benchmarks.work import SMALL, Size, Work
from models.event_classifier import EventClassifier
from models.vnibcreg import VNIbCReg
from preprocessing.dataset import EventDataset, Sensors
from utils.precision import has_bf16

PUBLISHED_IMAGES: dict[str, Any] = {}  # the defaults of LogSpectrogram
NATIVE_IMAGES = {"resize_size": None}
BF16: Final = "bf16-mixed"
CPU = torch.device("cpu")
Module = TypeVar("Module", bound=nn.Module)
COMPACT = "CompactEncoder"
N_EVALUATED = 16  # events at most: one would be too short to time


def build_pretraining(
    backbone: str,
    projector: int,
    spectrogram: dict[str, Any] = PUBLISHED_IMAGES,
    kind: type[VNIbCReg] = VNIbCReg,
) -> VNIbCReg:
    """Build a pretraining model with seeded weights."""
    torch.manual_seed(0)
    return kind(
        backbone,
        proj_hid=projector,
        proj_out=projector,
        lambda_=1.0,
        mu=1.0,
        nu=1.0,
        rho=1.0,
        use_diag_loss=True,
        use_tnc=True,
        learning_rate=1e-3,
        weight_decay=0.0,
        augmentations=["NeighboringCrop"],
        spectrogram=spectrogram,
        knn_period=-1,
    )


def build_classifier(
    class_names: Sequence[str],
    backbone: str,
    spectrogram: dict[str, Any] = PUBLISHED_IMAGES,
    **changes: Any,
) -> EventClassifier:
    """Build a classifier with seeded weights; ``changes`` are its further arguments."""
    torch.manual_seed(0)
    return EventClassifier(
        class_names,
        backbone,
        class_weights=None,
        learning_rate=1e-3,
        weight_decay=0.0,
        label_smoothing=0.0,
        freeze_encoder=False,
        freeze_bn_stat_train=False,
        augmentations=[],
        spectrogram=spectrogram,
        **changes,
    )


def precisions() -> tuple[str, ...]:
    """Return the precisions to measure on this machine, the fastest last."""
    return ("float32", BF16) if has_bf16(CPU) else ("float32",)


def ssl_model(size: Size) -> VNIbCReg:
    """Build the pretraining model."""
    return build_pretraining(size.ssl_backbone, size.projector)


def classifier(backbone: str, **options: Any) -> EventClassifier:
    """Build a classifier of eight classes."""
    return build_classifier([str(k) for k in range(8)], backbone, **options)


def _published_layout(module: Module) -> Module:
    return module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def optimiser_step(
    module: Module,
    loss: Callable[[Module], Tensor],
    precision: str = "float32",
) -> Callable[[], float]:
    """Return a step of Adam on the CPU, which returns the loss before the step."""
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)

    def step() -> float:
        torch.manual_seed(0)  # dropout
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == BF16):
            value = loss(module)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return float(value.detach())

    return step


def _ssl_loss(size: Size) -> Callable[[VNIbCReg], Tensor]:
    """Return the loss as a function of the model, on prepared crops."""
    crops = torch.rand(size.ssl_batch, 3, 128, 70, generator=torch.Generator().manual_seed(0))
    return lambda module: module.losses(crops)["loss"]


def supervised_loss(
    size: Size,
    rows: int = 128,
    columns: int = 711,
) -> Callable[[EventClassifier], Tensor]:
    """Return the loss as a function of the model, on prepared images."""
    images = torch.rand(
        size.supervised_batch,
        1,
        rows,
        columns,
        generator=torch.Generator().manual_seed(0),
    )
    labels = torch.arange(size.supervised_batch) % 8
    return lambda module: F.cross_entropy(module(images).float(), labels)


def published_ssl_step(size: Size) -> Callable[[], float]:
    """Return the published optimiser step of pretraining.

    It replaces the covariance loss of this process: call it in a separate one.
    """
    models.vnibcreg.covariance_loss = published.covariance_loss
    return optimiser_step(_published_layout(ssl_model(size)), _ssl_loss(size))


def published_supervised_step(size: Size) -> Callable[[], float]:
    """Return the published optimiser step of classification."""
    return optimiser_step(
        _published_layout(classifier(size.classifier_backbone)),
        supervised_loss(size),
    )


def ssl_step_rows(work: Work) -> Iterator[Row]:
    """Measure an optimiser step of pretraining on prepared crops."""
    size = work.size
    what = f"SSL step, {size.ssl_backbone}, batch {size.ssl_batch}, projector {size.projector}"
    yield from _step_rows(what, size, published_ssl_step, ssl_model(size), _ssl_loss(size))


def supervised_step_rows(work: Work) -> Iterator[Row]:
    """Measure an optimiser step of classification on prepared images."""
    size = work.size
    what = f"supervised step, {size.classifier_backbone}, batch {size.supervised_batch}, 128 x 711"
    yield from _step_rows(
        what,
        size,
        published_supervised_step,
        classifier(size.classifier_backbone),
        supervised_loss(size),
    )


def _step_rows(
    what: str,
    size: Size,
    published_step: Callable[..., Any],
    model: nn.Module,
    loss: Callable[..., Any],
) -> Iterator[Row]:
    """Compare a step in each precision with the published one and with a large convolution."""
    n_images = 8 if size is SMALL else 64
    dtypes = {"float32": torch.float32, BF16: torch.bfloat16}
    plain = {name: large_convolution(CPU, dtypes[name], n_images) for name in precisions()}
    first: dict[str, float] = {}
    with own_process(published_step, size) as step:
        ways: dict[str, Callable[[], Any]] = {"published": step}
        ways |= {name: optimiser_step(copy.deepcopy(model), loss, name) for name in precisions()}
        flops = count_flops(lambda: first.update(float32=ways["float32"]()))
        first |= {name: way() for name, way in ways.items() if name not in first}
        for work, _ in plain.values():
            work()
        ways |= {f"plain {name}": work for name, (work, _) in plain.items()}
        seconds = take_turns(ways, size.n_rounds, size.rounds_s)
    published_s = f"{median(seconds['published']):.3g} s"
    for name in reversed(precisions()):
        goal = 3.0 if name == BF16 else 1.0
        factor, here = ratio(seconds["published"], seconds[name]), median(seconds[name])
        difference = abs(first[name] / first["published"] - 1)
        shown = f"{here:.3g} s (first loss differs by {difference:.1g})"
        yield Row(
            f"{what}, {name}",
            published_s,
            shown,
            f"{factor:.3g} x",
            f"≥ {goal:g} x",
            factor >= goal,
        )
        rate, reachable = flops / here, plain[name][1] / median(seconds[f"plain {name}"])
        yield Row(
            f"– its operations against a plain large convolution, {name}",
            f"{reachable / 1e9:.0f} GFLOP/s",
            f"{rate / 1e9:.0f} GFLOP/s",
            f"{100 * rate / reachable:.0f} %",
            "≥ 80 %",
            rate >= 0.8 * reachable,
        )


def published_evaluation(size: Size, files: Sequence[Path]) -> Callable[[], None]:
    """Return the published evaluation of these files."""
    model = classifier(size.classifier_backbone)
    network = _published_layout(nn.Sequential(model.encoder, model.classifier)).eval()

    def classify() -> None:
        for path in files:
            published.ensemble_probabilities(path, network)

    return classify


def evaluation(
    model: EventClassifier,
    data: EventDataset,
    n_events: int,
    precision: str,
) -> Callable[[], Tensor]:
    """Return the evaluation of the first events, from the archive to log-probabilities."""
    keys, model = [(0, event) for event in range(n_events)], model.eval()

    def classify() -> Tensor:
        batch = data.__getitems__(keys)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == BF16):
            return model.predict_events(batch.waveforms, mask=batch.mask).log_probs

    return classify


def evaluation_rows(work: Work) -> Iterator[Row]:
    """Measure ensemble evaluation of files and of the archive, at both image sizes."""
    size, precision, data = work.size, precisions()[-1], work.dataset("all", in_memory=False)
    models = {
        "resized": classifier(size.classifier_backbone),
        "native": classifier(size.classifier_backbone, spectrogram=NATIVE_IMAGES),
    }
    files = work.files[: size.n_evaluated]
    with own_process(published_evaluation, size, files) as classify:
        ways = {"published": classify}
        for name, model in models.items():
            ways[name] = evaluation(model, data, len(files), precision)
        seconds = alternate(ways, max(2, size.n_rounds), size.rounds_s)
    of_native = "native 41 x 228 (published: 128 x 711)"
    for way, goal, what in (("resized", 3, "128 x 711"), ("native", 20, of_native)):
        name = f"ensemble evaluation, {work.archive.live.shape[1]} sensors, {what}, {precision}"
        wanted = goal if precision == BF16 else None
        yield compare(seconds["published"], seconds[way], len(files), wanted, name, "events")


def native_classifier(backbone: str, **options: Any) -> EventClassifier:
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


def published_items(
    item: Callable[[Path, np.random.Generator], Tensor],
    files: Sequence[Path],
) -> Callable[[], None]:
    """Return the published way to make a batch of items from files."""
    rng = np.random.default_rng(0)

    def make() -> None:
        torch.stack([item(path, rng) for path in files])

    return make


def input_rows(work: Work) -> Iterator[Row]:
    """Measure items per second: crops for pretraining and whole images."""
    keys = [(0, event) for event in range(len(work.files))]
    model, network = ssl_model(work.size), classifier(work.size.classifier_backbone)

    def crops(data: EventDataset) -> Callable[[], Tensor]:
        def make() -> Tensor:
            batch = data.__getitems__(keys)
            return model.cut_views(batch.waveforms, batch.draws)

        return make

    def images(data: EventDataset) -> Callable[[], Tensor]:
        return lambda: network.to_images(data.__getitems__(keys).waveforms[:, 0])

    kinds: tuple[tuple[str, float, Callable[..., Any], Sensors, Callable[..., Any]], ...] = (
        ("SSL input", 50, published.ssl_item, "pair", crops),
        ("supervised input", 15, published.supervised_item, "one", images),
    )
    for name, goal, item, sensors, make in kinds:
        with own_process(published_items, item, work.files) as published_way:
            ways = {
                "published": published_way,
                "from the archive": make(work.dataset(sensors, in_memory=False)),
                "preload: ram": make(work.dataset(sensors, in_memory=True)),
            }
            seconds = alternate(ways, max(7, work.size.n_rounds), work.size.rounds_s)
        for way in ("from the archive", "preload: ram"):
            yield compare(
                seconds["published"],
                seconds[way],
                len(keys),
                goal,
                f"{name}, {way}",
                "items",
            )
