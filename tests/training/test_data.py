"""From the configuration to the events of a training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from training.data import class_weights, open_events, require_possible_batch
from utils.config import load_config
from utils.errors import UserError
from utils.schema import FinetuneConfig, SSLConfig


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A configuration for 10 labelled events and 4 without label; the files hold nothing."""
    for label, n in (("a", 6), ("b", 4), ("Unlabeled", 4)):
        (tmp_path / "events" / label).mkdir(parents=True)
        for number in range(n):
            (tmp_path / "events" / label / f"{number}.mseed").touch()
    monkeypatch.chdir(tmp_path)
    common = ["dataset.source=folder", "dataset.root=events", "trainer_params.gpus=[]"]

    def configure(kind, *overrides):
        name = "ssl" if kind is SSLConfig else "finetune"
        return load_config(ROOT / f"configs/{name}.yaml", kind, [*common, *overrides])

    return configure


def test_all_events_count_for_pretraining(configured, tmp_path):
    small = "model_params.proj_out=4"
    require_possible_batch(configured(SSLConfig, "dataset.batch_size=11", small))
    with pytest.raises(UserError, match="is 12, but there are only 11 training events"):
        open_events(configured(SSLConfig, "dataset.batch_size=12", small))
    assert not (tmp_path / "data").exists()  # nothing was read, let alone packed


def test_a_classifier_takes_all_its_events_in_one_batch(configured):
    require_possible_batch(configured(FinetuneConfig, "dataset.batch_size=16"))


def test_a_class_whose_folder_is_a_number_can_be_left_out_of_the_loss(configured):
    config = configured(FinetuneConfig, "exp_params.zero_weight_classes=[1, 007]")
    labels, names = np.array([0, 0, 1, 2, 2, 2, 3]), ("007", "1", "2", "3")
    data = SimpleNamespace(class_names=names, labels=labels, train_events=np.arange(7))
    assert class_weights(config, data) == [0, 0, pytest.approx(4 / 6), pytest.approx(4 / 2)]
    with pytest.raises(UserError, match="zero_weight_classes: 7 not among 007, 1, 2, 3"):
        class_weights(configured(FinetuneConfig, "exp_params.zero_weight_classes=[7]"), data)


def test_opening_events_draws_no_random_numbers(configured, packed):
    """A training seeds the generators itself, where it makes its network."""
    config = configured(FinetuneConfig, f"dataset.root={packed}", "dataset.sampling_freq=100")
    before = torch.get_rng_state()
    open_events(config)
    assert torch.equal(torch.get_rng_state(), before)
