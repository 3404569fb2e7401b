"""What ``precision: auto`` chooses in training and prediction."""

import pytest

from tests.commands.running import run, summary
from tests.conftest import ROOT, run_script


@pytest.fixture
def on_a_cpu_with(tmp_path, monkeypatch):
    """Let the commands believe that the CPU has certain units, and no others."""

    def make(unit: str) -> None:
        patch = f"import torch.cpu\ntorch.cpu.get_capabilities = lambda: {{{unit!r}: True}}\n"
        (tmp_path / "sitecustomize.py").write_text(patch)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


AUTO = (
    "load_encoder.backbone_type=CompactEncoder",
    "trainer_params.gpus=[]",
    "trainer_params.precision=auto",
)


@pytest.mark.parametrize(("unit", "chosen"), [("avx512_bf16", "bf16-mixed"), ("avx2", "32-true")])
def test_training_and_prediction_choose_the_same_precision(
    workplace, separable, on_a_cpu_with, unit, chosen
):
    on_a_cpu_with(unit)
    output = run("finetune", separable, f"auto-{unit}", *AUTO, cwd=workplace, epochs=1)
    assert summary(workplace, "finetune", f"auto-{unit}")["precision"] == chosen
    checkpoint = workplace / "runs" / "finetune" / f"auto-{unit}" / "checkpoints" / "last.ckpt"
    config = [
        "--config_predict",
        str(ROOT / "configs" / "predict.yaml"),
        "--ckpt",
        str(checkpoint),
        "gpu=null",
    ]
    file = next((separable / "low").iterdir())
    predicted = run_script(
        "predict.py", *config, str(file), "--out", f"auto-{unit}.csv", cwd=workplace
    )
    for text in (output, predicted):
        assert (
            text.count("precision auto: ") == 1
            and f"precision auto: {chosen} (this CPU has" in text
        )


def test_images_too_small_for_bf16_get_float32_by_themselves(workplace, separable, on_a_cpu_with):
    on_a_cpu_with("avx512_bf16")
    output = run(
        "finetune",
        separable,
        "auto-small",
        *AUTO,
        "dataset.resize_size=16",
        cwd=workplace,
        epochs=1,
    )
    assert (
        "precision auto: 32-true (bf16 on a CPU gives wrong gradients for images of 16 x" in output
    )
    assert summary(workplace, "finetune", "auto-small")["precision"] == "32-true"
