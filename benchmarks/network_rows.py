"""What the networks cost: optimiser steps and evaluation against the published way, and how near they come to the hardware."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models.vnibcreg
from benchmarks import published
from benchmarks.networks import NATIVE_IMAGES, build_classifier, build_pretraining
from benchmarks.table import SMALL, Row, Size, Work, compare
from benchmarks.timing import alternate, count_flops, large_convolution, own_process, ratio, seconds_of
from models.event_classifier import EventClassifier
from models.vnibcreg import VNIbCReg


def ssl_model(size: Size) -> VNIbCReg:
    """Build the model of pretraining."""
    return build_pretraining(size.ssl_backbone, size.projector)


def classifier(size: Size, **options) -> EventClassifier:
    """Build a classifier of eight classes."""
    return build_classifier([str(k) for k in range(8)], size.classifier_backbone, **options)


def _published_layout(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.contiguous_format)


def _optimiser_step(module: nn.Module, loss: Callable[[nn.Module], Tensor], bf16: bool) -> Callable[[], float]:
    """Return a step of Adam that returns the loss it started from."""
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
    device = next(module.parameters()).device.type

    def step() -> float:
        torch.manual_seed(0)  # dropout
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            value = loss(module)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return float(value.detach())

    return step


def _ssl_loss(size: Size) -> Callable[[VNIbCReg], Tensor]:
    """Return the loss on crops that are ready."""
    crops = torch.rand(size.ssl_batch, 3, 128, 70, generator=torch.Generator().manual_seed(0))
    return lambda module: module.losses(crops)["loss"]


def _supervised_loss(size: Size, rows: int = 128, columns: int = 711) -> Callable[[EventClassifier], Tensor]:
    """Return the loss on images that are ready."""
    images = torch.rand(size.supervised_batch, 1, rows, columns, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(size.supervised_batch) % 8
    return lambda module: F.cross_entropy(module(images).float(), labels)


def published_ssl_step(size: Size) -> Callable[[], float]:
    """Return the published optimiser step of pretraining; for a process of its own, which it changes."""
    models.vnibcreg.covariance_loss = published.covariance_loss
    return _optimiser_step(_published_layout(ssl_model(size)), _ssl_loss(size), bf16=False)


def published_supervised_step(size: Size) -> Callable[[], float]:
    """Return the published optimiser step of classification."""
    return _optimiser_step(_published_layout(classifier(size)), _supervised_loss(size), bf16=False)


def ssl_step_rows(work: Work) -> Iterator[Row]:
    """Measure an optimiser step of pretraining on crops that are ready."""
    size = work.size
    what = f"SSL step, {size.ssl_backbone}, batch {size.ssl_batch}, projector {size.projector}"
    yield from _step_rows(what, size, published_ssl_step, ssl_model(size), _ssl_loss(size))


def supervised_step_rows(work: Work) -> Iterator[Row]:
    """Measure an optimiser step of classification on images that are ready."""
    size = work.size
    what = f"supervised step, {size.classifier_backbone}, batch {size.supervised_batch}, 128 x 711"
    yield from _step_rows(what, size, published_supervised_step, classifier(size), _supervised_loss(size))


def _step_rows(what: str, size: Size, published_step: Callable, model: nn.Module, loss: Callable) -> Iterator[Row]:
    """Compare a step in float32 and in bf16 with the published one, and both with a plain large convolution."""
    plain = {name: large_convolution(torch.device("cpu"), dtype, 8 if size is SMALL else 64) for name, dtype in
             (("float32", torch.float32), ("bf16-mixed", torch.bfloat16))}  # fmt: skip
    flops = count_flops(_optimiser_step(copy.deepcopy(model), loss, bf16=False))
    with own_process(published_step, size) as step:
        ways = {
            "published": step,
            "float32": _optimiser_step(copy.deepcopy(model), loss, bf16=False),
            "bf16-mixed": _optimiser_step(copy.deepcopy(model), loss, bf16=True),
        }
        first = {name: step() for name, step in ways.items()}
        seconds = alternate(ways | {f"plain {name}": work for name, (work, _) in plain.items()}, size.n_rounds)
    for name, goal in (("bf16-mixed", 3.0), ("float32", 1.0)):
        factor, here = ratio(seconds["published"], seconds[name]), median(seconds[name])
        difference = abs(first[name] / first["published"] - 1)
        yield Row(f"{what}, {name}", f"{median(seconds['published']):.3g} s", f"{here:.3g} s (first loss differs by {difference:.1g})",
                  f"{factor:.3g} x", f"≥ {goal:g} x", factor >= goal)  # fmt: skip
        rate, reachable = flops / here, plain[name][1] / median(seconds[f"plain {name}"])
        yield Row(f"– its operations against a plain large convolution, {name}", f"{reachable / 1e9:.0f} GFLOP/s",
                  f"{rate / 1e9:.0f} GFLOP/s", f"{100 * rate / reachable:.0f} %", "≥ 80 %", rate >= 0.8 * reachable)  # fmt: skip


def image_size_rows(work: Work) -> Iterator[Row]:
    """Measure what a training image of each size costs, in bf16."""
    size, ways = work.size, {}
    for rows, columns, stride in ((128, 711, 2), (64, 355, 2), (41, 228, 1), (41, 228, 2)):
        what = f"{rows} x {columns}, stem_stride {stride}"
        ways[what] = _optimiser_step(classifier(size, stem_stride=stride), _supervised_loss(size, rows, columns), bf16=True)
    seconds = alternate(ways, size.n_rounds)
    published_size, *others = seconds
    for what in others:
        factor = ratio(seconds[published_size], seconds[what])
        yield Row(f"supervised step, {size.classifier_backbone}, batch {size.supervised_batch}, bf16-mixed, {what}",
                  f"{published_size}: {median(seconds[published_size]):.3g} s", f"{median(seconds[what]):.3g} s", f"{factor:.3g} x",
                  "")  # fmt: skip


def published_evaluation(size: Size, files: Sequence[Path]) -> Callable[[], None]:
    """Return the published evaluation of these files."""
    model = classifier(size)
    network = _published_layout(nn.Sequential(model.encoder, model.classifier)).eval()

    def classify() -> None:
        for path in files:
            published.ensemble_probabilities(path, network)

    return classify


def evaluation_rows(work: Work) -> Iterator[Row]:
    """Measure ensemble evaluation from file or archive to probabilities, at both sizes of image."""
    files, keys = work.files[: work.size.n_evaluated], [(0, event) for event in range(work.size.n_evaluated)]
    resized = classifier(work.size).eval()
    native = classifier(work.size, spectrogram=NATIVE_IMAGES).eval()
    data = work.dataset("all", in_memory=False)

    def here(model: EventClassifier) -> Callable[[], Tensor]:
        def classify() -> Tensor:
            batch = data.__getitems__(keys)
            with torch.autocast("cpu", torch.bfloat16):
                return model.predict_events(batch.waveforms, mask=batch.mask).log_probs

        return classify

    with own_process(published_evaluation, work.size, files) as classify:
        ways = {"published": classify, "resized": here(resized), "native": here(native)}
        seconds = alternate(ways, max(2, work.size.n_rounds))
    for way, goal, what in (("resized", 3, "128 x 711"), ("native", 20, "native 41 x 228 (published: 128 x 711)")):
        name = f"ensemble evaluation, {work.archive.live.shape[1]} sensors, {what}, bf16"
        yield compare(seconds["published"], seconds[way], len(files), goal, name, "events")


class _Timed(VNIbCReg):
    """Add up the time in the network: encoder, projector and losses, forward and backward, and the optimiser's own step."""

    network_s = closure_s = 0.0

    def losses(self, crops: Tensor) -> dict[str, Tensor]:
        result = {}
        elapsed_s = seconds_of(lambda: result.update(super(_Timed, self).losses(crops)))
        self.network_s += elapsed_s
        return result

    def backward(self, loss: Tensor, *arguments, **options) -> None:
        elapsed_s = seconds_of(lambda: super(_Timed, self).backward(loss, *arguments, **options))
        self.network_s += elapsed_s

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer, optimizer_closure=None) -> None:
        inside = []

        def closure():
            results = []
            inside.append(seconds_of(lambda: results.append(optimizer_closure())))
            return results[0]

        elapsed_s = seconds_of(lambda: super(_Timed, self).optimizer_step(epoch, batch_idx, optimizer, closure))
        self.network_s += elapsed_s - sum(inside)


def share_row(work: Work, folder: Path) -> Row:
    """Measure which share of a pretraining epoch is not spent in the network: input, crops, logging, Lightning."""
    import pytorch_lightning as pl

    from preprocessing.dataset import EventDataModule

    size, events = work.size, np.arange(len(work.archive))
    model = build_pretraining(size.ssl_backbone, size.projector, kind=_Timed)
    data = EventDataModule(work.archive, events, events[:2], class_names=work.archive.class_names, batch_size=size.ssl_batch,
                           sensors_train="pair", preload="ram")  # fmt: skip
    spent = {}

    class Epoch(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: _Timed) -> None:
            spent["start"], module.network_s = time.perf_counter(), 0.0

        def on_train_epoch_end(self, trainer: pl.Trainer, module: _Timed) -> None:
            spent["epoch"], spent["network"] = time.perf_counter() - spent["start"], module.network_s

    trainer = pl.Trainer(accelerator="cpu", precision="bf16-mixed", max_epochs=2, limit_val_batches=0, logger=False, callbacks=[Epoch()],
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                         default_root_dir=folder, use_distributed_sampler=False)  # fmt: skip
    trainer.fit(model, datamodule=data)
    share = 100 * (1 - spent["network"] / spent["epoch"])
    return Row("share of an SSL epoch outside the network, bf16-mixed, preload: ram", "", f"{spent['epoch']:.3g} s an epoch",
               f"{share:.2g} %", "≤ 5 %", share <= 5)  # fmt: skip
