"""Speed of the networks: optimiser steps and evaluation against the published implementation.

Steps are also compared with the peak speed of the hardware.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models.vnibcreg
from benchmarks import published
from benchmarks.networks import NATIVE_IMAGES, build_classifier, build_pretraining
from benchmarks.table import Row, compare
from benchmarks.timing import (
    alternate,
    count_flops,
    large_convolution,
    own_process,
    ratio,
    take_turns,
)
from benchmarks.trainer import BF16
from benchmarks.work import SMALL, Size, Work
from models.event_classifier import EventClassifier
from models.vnibcreg import VNIbCReg
from preprocessing.dataset import EventDataset
from utils.precision import has_bf16

CPU = torch.device("cpu")
Module = TypeVar("Module", bound=nn.Module)


def precisions() -> tuple[str, ...]:
    """Return the precisions to measure on this machine, the fastest last."""
    return ("float32", BF16) if has_bf16(CPU) else ("float32",)


def ssl_model(size: Size) -> VNIbCReg:
    """Build the pretraining model."""
    return build_pretraining(size.ssl_backbone, size.projector)


def classifier(backbone: str, **options) -> EventClassifier:
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
    published_step: Callable,
    model: nn.Module,
    loss: Callable,
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


def image_size_rows(work: Work) -> Iterator[Row]:
    """Measure a training step for each image size, in the fastest precision."""
    size, precision, ways = work.size, precisions()[-1], {}
    for rows, columns, stride in ((128, 711, 2), (64, 355, 2), (41, 228, 1), (41, 228, 2)):
        model = classifier(size.classifier_backbone, stem_stride=stride)
        loss = supervised_loss(size, rows, columns)
        ways[f"{rows} x {columns}, stem_stride {stride}"] = optimiser_step(model, loss, precision)
    seconds = alternate(ways, size.n_rounds, size.rounds_s)
    published_size, *others = seconds
    backbone = size.classifier_backbone
    step = f"supervised step, {backbone}, batch {size.supervised_batch}, {precision}"
    for what in others:
        factor = ratio(seconds[published_size], seconds[what])
        yield Row(
            f"{step}, {what}",
            f"{published_size}: {median(seconds[published_size]):.3g} s",
            f"{median(seconds[what]):.3g} s",
            f"{factor:.3g} x",
            "",
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
