"""Damaged and hostile files: one message, exit status 2, no code of the file is run."""

import os
import shutil

import numpy as np
import pytest
import torch

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import EventArchive
from preprocessing.splits import Division, classifier_split
from tests.conftest import ROOT, run_script
from training.runs import Run
from utils.config import load_config
from utils.schema import FinetuneConfig

CONFIG = ROOT / "configs" / "finetune.yaml"
NO_DATA = ("dataset.source=folder", "dataset.root=/nowhere", "run_name=victim")


class Malicious:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def refused(cwd, *arguments: str) -> str:
    """Run finetune.py, which should stop with status 2; return its one message."""
    output = run_script("finetune.py", "--config_ft", str(CONFIG), *arguments, cwd=cwd, status=2)
    assert "Traceback" not in output and output.count("error:") == 1, output
    assert not (cwd / "pwned").exists()
    return output.partition("error:")[2]


def test_contradictions_are_refused_before_data_is_touched(tmp_path):
    overrides = (
        "exp_params.freeze_encoders=true",
        "dataset.train_data_ratio=0.9",
        "exp_params.out_size_enc=2048",
    )
    message = refused(tmp_path, *NO_DATA, *overrides)
    for key in (
        "exp_params.freeze_encoders",
        "dataset.train_data_ratio",
        "exp_params.out_size_enc",
    ):
        assert f"{key}: " in message
    assert "/nowhere" not in message and list(tmp_path.iterdir()) == []
    assert "augmentations: " in refused(tmp_path, *NO_DATA, "augmentations=[NeighboringCrop]")


def test_code_in_overrides_is_refused(tmp_path):
    assert "not valid YAML" in refused(
        tmp_path, *NO_DATA, "seed=!!python/object/apply:os.system ['touch pwned']"
    )


def test_code_in_an_encoder_file_is_refused_before_data_is_touched(tmp_path):
    torch.save({"epoch": 1, "model_state_dict": Malicious()}, tmp_path / "evil.ckpt")
    message = refused(tmp_path, *NO_DATA, "load_encoder.ckpt_fname=evil.ckpt")
    assert (
        "evil.ckpt: not a checkpoint that can be loaded safely" in message
        and "/nowhere" not in message
    )


@pytest.mark.parametrize("evil", [True, False])
def test_no_run_goes_on_from_a_hostile_or_damaged_checkpoint(tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    run = Run(load_config(CONFIG, FinetuneConfig, NO_DATA))
    run.start()
    (run.dir / "checkpoints").mkdir()
    if evil:
        torch.save({"epoch": 1, "state_dict": Malicious()}, run.dir / "checkpoints" / "last.ckpt")
    else:
        (run.dir / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    message = refused(tmp_path, "--resume", str(run.dir), *NO_DATA)
    assert (
        "runs/finetune/victim/checkpoints/last.ckpt: " in message
        and "intact copy" in message
        and "/nowhere" not in message
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Return an archive of two classes of small events."""
    path, rng = tmp_path_factory.mktemp("packed") / "archive", np.random.default_rng(0)
    with ArchiveWriter(path, 100.0) as writer:
        for number in range(24):
            writer.add(f"event_{number}", rng.normal(0, 100, (2, 600)), "AB"[number % 2])
    return path


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_damaged_event_is_one_message_from_training_and_its_workers(tmp_path, packed, n_workers):
    shutil.copytree(packed, tmp_path / "archive")
    archive = EventArchive(packed)
    content = bytearray((packed / "waveforms.hdf5").read_bytes())
    train = classifier_split(archive.labels, Division(0.8, 0.2, 0))[0]
    drawn = [
        train[archive.labels[train] == name][0] for name in "AB"
    ]  # sample pictures of these, before workers start
    for index in set(train) - set(drawn):
        for sensor in range(2):
            content[content.find(archive.waveforms(index, [sensor]).tobytes()) + 100] ^= 1
    (tmp_path / "archive" / "waveforms.hdf5").write_bytes(content)
    overrides = (
        "dataset.source=folder",
        "dataset.root=archive",
        "dataset.sampling_freq=100",
        "dataset.batch_size=4",
        "dataset.nperseg=20",
        "dataset.resize_size=32",
        f"dataset.num_workers={n_workers}",
        "trainer_params.max_epochs=1",
        "load_encoder.backbone_type=CompactEncoder",
        "trainer_params.gpus=[]",
    )
    message = refused(tmp_path, *overrides)
    assert (
        "event event_" in message and "damaged" in message and "restore it from a copy" in message
    )
    assert len(message.strip().splitlines()) == 1, message
