"""Other networks from the recordings to predictions: check, pack and train, predict."""

import re

import pytest

from preprocessing.check.__main__ import main as check
from tests.commands.running import SMALL_ENCODER, summary
from tests.conftest import ROOT, made_once, run_script
from tests.other_networks import write_icequakes, write_landslides
from tests.prediction.conftest import predict, table

SMALL = [
    "dataset.resize_size=32",
    "dataset.batch_size=4",
    "dataset.test_data_ratio=0.25",
    "dataset.train_data_ratio=0.75",
]


def advised(report: str) -> dict[str, str]:
    """Return the keys that the check advises, to be used as they are."""
    lines = report.split("  dataset:\n")[1].splitlines()
    pairs = (re.match(r"\s+(\w+): ([^ ]+)", line) for line in lines)
    return {pair[1]: pair[2] for pair in pairs if pair}


NETWORKS = {  # how it is written, what the check says, advice
    "icequakes": (
        write_icequakes,
        ["20 events, 420 channels of 21 names", "200 Hz: 420 channels"],
        {"sampling_freq": "200", "duration_s": "4", "nperseg": "18"},
    ),
    "landslides": (
        write_landslides,
        ["16 events", "1 / 3.5 / 90", "50 Hz", "200 Hz", "below 1 Hz: microseism or drift"],
        {"sampling_freq": "50", "duration_s": "180", "highpass_hz": "1"},
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_another_network_from_recordings_to_predictions(
    network, tmp_path, tmp_path_factory, capsys
):
    write, expected, advice = NETWORKS[network]
    root = made_once(tmp_path_factory, network, write)
    check([str(root)])
    report = capsys.readouterr().out
    assert [text for text in expected if text not in report] == []
    keys = advised(report)
    assert keys | advice == keys
    overrides = [f"dataset.{key}={value}" for key, value in keys.items()]
    config = ["--config_ft", str(ROOT / "configs/finetune.yaml"), "run_name=one"]
    few = [*SMALL, *SMALL_ENCODER["finetune"], "trainer_params.max_epochs=1"]
    run_script("finetune.py", *config, *overrides, *few, cwd=tmp_path)
    data = summary(tmp_path, "finetune", "one")["data"]
    assert data["n_events"] == len(list(root.rglob("*.mseed"))) and data["n_test"] >= 4
    checkpoint = "runs/finetune/one/checkpoints/last.ckpt"
    predict(checkpoint, *sorted(root.rglob("*.mseed"))[:6], "--out", "t.csv", cwd=tmp_path)
    rows = table(tmp_path / "t.csv")
    assert len(rows) == 6 and all(row["class"] in data["class_names"] for row in rows)
    assert not any(row["error"] for row in rows)
    assert all(row["best_channel"].startswith("XX.") for row in rows)
