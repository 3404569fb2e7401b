"""The commands on real GPUs, at toy size: they learn, resume, share work, agree with a CPU."""

import csv

import pytest
import torch

from tests.commands.running import run, summary, train_and_stop_after
from tests.conftest import ROOT, run_script, write_separable_events
from tests.prediction.conftest import table

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
ON_GPU, ON_CPU = "trainer_params.gpus=[0]", "trainer_params.gpus=[]"
COMPACT = {
    "ssl": ["model_params.backbone_type=CompactEncoder"],
    "finetune": ["load_encoder.backbone_type=CompactEncoder"],
    "original": [],
}
# of losses: other kernels round differently, from step to step more so
SAME_DATA, SAME_WORK = 0.02, 0.1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("gpu")


def require_gpu(output: str) -> None:
    assert "no GPU" not in output


def train(kind, separable, name, *overrides, cwd, **options) -> list[dict]:
    """Train with a compact network on the first GPU; return the rows of the table of metrics."""
    overrides = [*COMPACT[kind], ON_GPU, *overrides]
    output = run(kind, separable, name, *overrides, cwd=cwd, **options)
    if ON_CPU not in overrides:
        require_gpu(output)
    return rows_of(cwd, kind, name)


def rows_of(cwd, kind, name) -> list[dict]:
    with open(cwd / "runs" / kind / name / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def losses(rows) -> torch.Tensor:
    """Return those of training and validation, (epochs, 2)."""
    return torch.tensor([[float(row["train/loss"]), float(row["val/loss"])] for row in rows])


def require_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["ssl", "finetune", "original"])
def test_the_first_epoch_is_that_of_a_cpu_wherever_waveforms_are_kept(place, separable, kind):
    """Dropout draws other numbers on a GPU, and the seed of each step makes them the same there."""
    save_nothing = "exp_params.model_save_ep_period=-1"
    first = {
        name: losses(train(kind, separable, name, save_nothing, *overrides, cwd=place, epochs=1))
        for name, overrides in {
            "cpu": [ON_CPU],
            "none": ["dataset.preload=none", "dataset.num_workers=2"],
            "ram": ["dataset.preload=ram", "dataset.num_workers=2"],
            "device": ["dataset.preload=device"],
        }.items()
    }
    for preload in ("ram", "device"):
        require_close(first[preload], first["none"], SAME_DATA)
    require_close(first["none"], first["cpu"], SAME_WORK)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["ssl", "finetune", "original"])
def test_commands_learn(place, separable, kind, precision):
    overrides = [f"trainer_params.precision={precision}", "dataset.preload=device"]
    if kind == "ssl":
        overrides += ["exp_params.knn_acc_record_ep_period=6", "model_params.proj_out=4"]
    else:
        overrides.append("dataset.calibration_ratio=0.2")
    rows = train(kind, separable, precision, "dataset.batch_size=8", *overrides, cwd=place)
    loss = losses(rows)[:, 0]
    assert loss.isfinite().all() and loss[-3:].mean() < 0.9 * loss[:2].mean()
    found = summary(place, kind, precision)["metrics"]
    if kind == "ssl":
        assert 0 < found["val/knn_accuracy"] <= 1
    else:
        assert (place / "runs" / kind / precision / "plots" / "calibration.png").is_file()


@pytest.mark.parametrize("kind", ["ssl", "finetune"])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(place, separable, kind):
    overrides = [*COMPACT[kind], ON_GPU, "exp_params.model_save_ep_period=1"]
    whole = train(kind, separable, f"whole_{kind}", *overrides, cwd=place, epochs=4)
    assert "interrupted" in train_and_stop_after(kind, separable, place, 2, *overrides)
    stopped = place / "runs" / kind / f"stopped_{kind}"
    name = f"stopped_{kind}"
    resumed = train(kind, separable, name, *overrides, cwd=place, epochs=4, resume=stopped)
    assert [row["epoch"] for row in resumed] == ["0", "1", "2", "3"]
    require_close(losses(resumed), losses(whole), SAME_WORK)


def test_predictions_are_those_of_a_cpu(place, separable):
    train("finetune", separable, "model", "dataset.calibration_ratio=0.2", cwd=place)
    events = write_separable_events(place / "new", n_per_class=9, n_unlabeled=0, seed=77)
    checkpoint = place / "runs" / "finetune" / "model" / "checkpoints" / "last.ckpt"
    torch.load(checkpoint, weights_only=True)  # on whatever machine
    config = ["--config_predict", f"{ROOT}/configs/predict.yaml", "--ckpt", str(checkpoint)]
    probabilities = {}
    for name, overrides in {
        "cpu": ["gpu=null", "precision=32-true"],
        "gpu": ["gpu=0", "precision=32-true"],
        "bf16": ["gpu=0", "precision=bf16-mixed"],
    }.items():
        out = place / f"{name}.csv"
        arguments = [*config, str(events), "--out", str(out), "ensemble=usable", *overrides]
        run_script("predict.py", *arguments, cwd=place)
        rows = [[float(row[f"prob_{c}"]) for c in ("high", "low", "twice")] for row in table(out)]
        probabilities[name] = torch.tensor(rows)
    assert probabilities["cpu"].shape == (27, 3)
    torch.testing.assert_close(probabilities["gpu"], probabilities["cpu"], rtol=0, atol=0.01)
    torch.testing.assert_close(probabilities["bf16"], probabilities["cpu"], rtol=0, atol=0.1)


@pytest.mark.gpu(2)
@pytest.mark.parametrize("kind", ["ssl", "finetune", "original"])
def test_two_gpus_compute_what_one_does(place, separable, kind):
    """SyncBatchNorm sees the whole batch, and so do the losses."""
    of_one = train(kind, separable, "of_one", cwd=place, epochs=2)
    of_two = train(kind, separable, "of_two", "trainer_params.gpus=[0,1]", cwd=place, epochs=2)
    require_close(losses(of_two)[:1], losses(of_one)[:1], SAME_DATA)
    require_close(losses(of_two), losses(of_one), SAME_WORK)
