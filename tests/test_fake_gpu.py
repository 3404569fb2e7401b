"""Whatever runs on a GPU runs here on tensors that pretend to be on one.

A tensor that is made on the wrong device fails, and so does a training step that waits for the GPU.
"""

import importlib
import json
import sys
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.accelerators import CUDAAccelerator
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from models.calibration import Calibration
from models.ensemble import ENSEMBLES
from models.event_classifier import EventClassifier
from models.iternorm import IterNorm
from models.vnibcreg import VNIbCReg
from original_implementation.stacked_trace_classifier import StackedTraceClassifier
from prediction.events import EventWindow
from prediction.predict_config import PredictConfig
from prediction.predictor import Predictor
from preprocessing.dataset import N_DRAWS, N_SENSOR_DRAWS, EventBatch
from preprocessing.recordings import Recording
from preprocessing.views import CHANGES
from tests.commands import running
from tests.conftest import write_separable_events
from tests.fake_gpu import GPU, fake_gpu
from tests.modules import CLASSIFIER, small_pretraining
from training import trainer as training

N_SAMPLES = 1200
IMAGES = {"sampling_rate_hz": 100, "nperseg": 20, "resize_size": 32}
ENTRIES = {  # module and function of each script
    "sslearn.py": ("sslearn", "pretrain"),
    "finetune.py": ("finetune", "finetune"),
    "original_implementation/train.py": ("original_implementation.train", "train"),
}
COMPACT = {
    "ssl": [
        "model_params.backbone_type=CompactEncoder",
        "model_params.proj_out=4",  # fewer than events in a batch
        "exp_params.knn_acc_record_ep_period=1",
    ],
    "finetune": ["load_encoder.backbone_type=CompactEncoder", "dataset.calibration_ratio=0.3"],
    "original": [
        "backbone_with_clf_type=AlexNet",
        "dataset.resize_size=64",
        "exp_params.model_save_ep_period=-1",  # 0.7 GB
    ],
}


class PretendedAccelerator(CUDAAccelerator):
    """Let Lightning take the pretended GPU for a real one."""

    def setup_device(self, device):
        pass

    def setup(self, trainer):
        pass

    def teardown(self):
        pass

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [GPU for _ in devices]

    @staticmethod
    def is_available():
        return True


class Watch(pl.Callback):
    """Note where losses, batches and gradients are, and how often a training step waits."""

    def __init__(self):
        self.devices, self.waits, self.before = set(), [], 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.before = len(self.gpu.waits)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        gradients = [p.grad for p in module.parameters()]
        self.devices |= {tensor.device for tensor in (outputs["loss"], *batch, *gradients)}
        self.waits.append(self.gpu.waits[self.before :])


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_separable_events(tmp_path_factory.mktemp("few"), n_per_class=8, n_unlabeled=4)


@pytest.fixture
def watch(monkeypatch, tmp_path):
    """Let ``tests.commands.running.run`` run in this process, its Trainer on the pretended GPU."""
    watch = Watch()
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("utils.precision.has_bf16", lambda device: True)
    monkeypatch.setattr(training, "choose_devices", lambda gpus: (PretendedAccelerator(), [0]))
    # in inference mode PyTorch's own pretending asks for the driver
    monkeypatch.setattr(pl, "Trainer", partial(pl.Trainer, inference_mode=False))
    # drawing takes a third of the time
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: path.touch())
    build_trainer = training.build_trainer
    with ExitStack() as stack:

        def build(*arguments):
            watch.gpu = stack.enter_context(fake_gpu())
            trainer = build_trainer(*arguments)
            trainer.callbacks.append(watch)
            return trainer

        def run_here(script, *arguments, cwd, status, new):
            module, entry = ENTRIES[script]
            monkeypatch.setattr(sys, "argv", [script, *arguments])
            getattr(importlib.import_module(module), entry)()

        monkeypatch.setattr(training, "build_trainer", build)
        monkeypatch.setattr(running, "run_script", run_here)
        yield watch


@pytest.mark.parametrize(
    ("kind", "preload", "precision", "metric"),
    [
        ("ssl", "device", "bf16-mixed", "val/knn_accuracy"),
        ("finetune", "device", "bf16-mixed", "ensemble_usable"),
        ("original", "ram", "32-true", "stacked_trace"),
    ],
)
def test_commands_compute_on_the_gpu(few, tmp_path, watch, kind, preload, precision, metric):
    """Training, validation, neighbours or evaluation, calibration, checkpoints: all of it."""
    overrides = [f"dataset.preload={preload}", f"trainer_params.precision={precision}"]
    overrides += ["dataset.batch_size=6", "exp_params.gradient_clip_val=1", *COMPACT[kind]]
    running.run(kind, few, "pretended", *overrides, cwd=tmp_path, epochs=1)
    assert watch.devices == {GPU}
    folder = tmp_path / "runs" / kind / "pretended"
    assert (folder / "checkpoints" / "last.ckpt").is_file() or kind == "original"
    assert metric in json.loads((folder / "summary.json").read_text())["metrics"]
    find_traces = [] if kind == "ssl" else ["aten.nonzero.default"]
    look_at_losses = ["aten._to_copy.default"]
    *steps, last = watch.waits
    assert steps and all(waits == find_traces for waits in steps)
    assert last == find_traces + look_at_losses


def pretraining(augmentations=("NeighboringCrop",), use_tnc=True, **images) -> VNIbCReg:
    return small_pretraining(
        augmentations=augmentations, use_tnc=use_tnc, spectrogram=IMAGES | images
    )


def classifier(kind=EventClassifier, **changes) -> EventClassifier:
    backbone = "ResNet18" if kind is StackedTraceClassifier else "CompactEncoder"
    arguments = CLASSIFIER | {"spectrogram": IMAGES, "n_samples": N_SAMPLES} | changes
    return kind("abc", backbone, **arguments)


def batch_of(n_sensors: int, device: torch.device, n_events: int = 4) -> EventBatch:
    return EventBatch(
        waveforms=torch.rand(n_events, n_sensors, N_SAMPLES, device=device),
        mask=torch.ones(n_events, n_sensors, dtype=torch.bool, device=device),
        sensors=torch.zeros(n_events, n_sensors, dtype=torch.int64, device=device),
        labels=torch.zeros(n_events, dtype=torch.int64, device=device),
        events=torch.arange(n_events, device=device),
        draws=torch.rand(n_events, N_DRAWS - N_SENSOR_DRAWS, device=device),
    )


def gradients_after_a_step(module: pl.LightningModule, n_sensors: int) -> list[torch.Tensor | None]:
    loss = module.to(GPU).training_step(batch_of(n_sensors, GPU), 0)
    loss.backward()
    return [p.grad for p in module.parameters() if p.requires_grad]


def test_steps_of_vibcreg_on_native_images():
    """The commands cut neighbouring crops of resized images."""
    views = ["RandomCrop", "RandomAmplitudeJitter"]
    module = pretraining(views, use_tnc=False, resize_size=None, minmax_scale=False)
    with fake_gpu():
        assert {g.device for g in gradients_after_a_step(module, n_sensors=2)} == {GPU}


def test_steps_on_whole_events_with_every_change():
    views = ["WholeEvent", *CHANGES]
    module = pretraining(views, use_tnc=False, resize_size=None)
    with fake_gpu(), torch.autocast("cuda", torch.bfloat16):
        assert {g.device for g in gradients_after_a_step(module, n_sensors=2)} == {GPU}


def test_pretraining_in_several_processes():
    distributed.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    try:
        with fake_gpu():
            module = pretraining().to(GPU)
            assert module.losses(torch.rand(4, 3, 32, 20, device=GPU))["loss"].device == GPU
            assert {g.device for g in gradients_after_a_step(classifier(), n_sensors=2)} == {GPU}
    finally:
        distributed.destroy_process_group()


def test_classifier_steps():
    module = classifier(
        class_weights=[0.0, 1.0, 2.0],
        label_smoothing=0.1,
        freeze_encoder=True,
        augmentations=list(CHANGES),
    )
    with fake_gpu(), torch.autocast("cuda", torch.bfloat16):
        assert {g.device for g in gradients_after_a_step(module, n_sensors=3)} == {GPU}
        module.validation_step(batch_of(3, GPU), 0)


def test_evaluation_statistics_of_whitening():
    with fake_gpu():
        norm = IterNorm(128).to(GPU).eval()
        assert norm(torch.rand(4, 128, device=GPU)).device == GPU


@pytest.mark.parametrize(
    ("kind", "ensemble", "precision"),
    [
        (EventClassifier, "all", "bf16-mixed"),
        (EventClassifier, "usable", "32-true"),
        (EventClassifier, "usable", "bf16-mixed"),
        (StackedTraceClassifier, "all", "32-true"),
    ],
)
def test_predictions(monkeypatch, kind, ensemble, precision):
    monkeypatch.setattr("utils.precision.has_bf16", lambda device: True)
    model = classifier(kind).eval()
    calibration = Calibration(1.5, torch.rand(9), torch.rand(9) > 0.5)
    model.calibrations = dict.fromkeys(ENSEMBLES, calibration)
    waveforms = np.random.default_rng(0).normal(size=(3, N_SAMPLES - 100)).astype(np.float32)
    recording = Recording(waveforms, 100.0, "2020-01-01T00:00:00", channels=tuple("abc"))
    with fake_gpu():
        config = PredictConfig(ensemble=ensemble, precision=precision)
        predictor = Predictor(model, "", config, GPU)
        (found,) = predictor.classify([EventWindow("1.mseed", recording)])
        assert len(found.event.per_sensor) == (1 if kind is StackedTraceClassifier else 3)
        assert model.predict_waveforms(torch.rand(2, 3, N_SAMPLES, device=GPU)).device == GPU
        assert model.probabilities_of_all(torch.rand(3, N_SAMPLES, device=GPU)).device == GPU


@pytest.mark.parametrize(
    "mistake",
    [
        lambda on_gpu, on_cpu: on_gpu + on_cpu,
        lambda on_gpu, on_cpu: torch.cat([on_gpu, on_cpu]),
        lambda on_gpu, on_cpu: on_gpu.gather(0, on_cpu.long()),
        lambda on_gpu, on_cpu: on_cpu[on_gpu > 0],
        lambda on_gpu, on_cpu: on_gpu.index_put((on_gpu > 0,), on_cpu),
        lambda on_gpu, on_cpu: on_gpu.index_put((on_gpu > 0,), on_gpu.bfloat16()),
        lambda on_gpu, on_cpu: on_gpu.numpy(),
        lambda on_gpu, on_cpu: torch.nn.Conv1d(1, 1, 3)(on_cpu[None]),
    ],
)
def test_pretending_finds_mistakes(mistake):
    with fake_gpu(), pytest.raises((RuntimeError, TypeError), match="device|cpu|CPU|bfloat16"):
        mistake(torch.ones(4, device=GPU), torch.ones(4))
