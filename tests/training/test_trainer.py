import pytest
import torch

from preprocessing.splits import classifier_split
from training.data import division_of, open_events, serve_events
from training.fine_tuning import build_classifier
from training.runs import Run
from training.trainer import epochs_between_evaluations, epochs_of, fit
from utils.schema import FinetuneConfig, SSLConfig


@pytest.fixture
def trained(tmp_path, monkeypatch, packed):
    """Return a function that trains for one epoch, or goes on with a run; and its results."""
    monkeypatch.chdir(tmp_path)
    config = FinetuneConfig(
        run_name="one",
        dataset={
            "source": "folder",
            "root": str(packed),
            "nperseg": 20,
            "resize_size": 16,
            "test_data_ratio": 0.25,
            "train_data_ratio": 0.75,
        },
        load_encoder={"backbone_type": "CompactEncoder"},
        trainer_params={"gpus": [], "max_epochs": 1},
    )

    def train(resume=None):
        run = Run(config, resume)
        archive = open_events(config)
        split = classifier_split(archive.labels, division_of(config, archive))
        data = serve_events(config, archive, split, "one")
        module = build_classifier(config, data)
        fit(run, module, data)
        return run, module

    return train


def test_the_checkpoint_of_an_interrupted_run_is_read_once(trained, monkeypatch):
    run, whole = trained()
    run._lock.release()  # as at the end of its process
    reads, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: reads.append(a[0]) or load(*a, **k))
    resumed, module = trained(run.dir)
    assert reads == [run.dir / "checkpoints" / "last.ckpt"] and resumed.resume_from == reads[0]
    assert resumed.checkpoint is None  # its memory is free
    weights = whole.state_dict(), module.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("n_epochs", "period"), [(1, 1), (19, 1), (50, 2), (100, 5), (150, 6), (97, 1), (300, 15)]
)
def test_a_classifier_is_watched_about_twenty_times_and_at_the_end(n_epochs, period):
    assert epochs_between_evaluations(FinetuneConfig(), n_epochs) == period
    wanted = FinetuneConfig(exp_params={"val_ep_period": 7})
    assert epochs_between_evaluations(wanted, n_epochs) == 7
    assert epochs_between_evaluations(SSLConfig(), n_epochs) == 1


@pytest.mark.parametrize(
    ("n_events", "min_steps", "n_epochs"),
    # 150 epochs of batches of 16: 40 events are 3 steps, 667 epochs, in twentieths 680
    [(40, 0, 150), (40, 450, 150), (40, 2000, 680), (1454, 2000, 150), (16, 151, 160)],
)
def test_few_labels_get_as_many_steps_as_are_asked_for(n_events, min_steps, n_epochs):
    trainer = {"max_epochs": 150, "min_steps": min_steps}
    config = FinetuneConfig(trainer_params=trainer, dataset={"batch_size": 16})
    assert epochs_of(config, n_events) == n_epochs
    assert n_epochs * -(-n_events // 16) >= min_steps


def test_pretraining_has_the_epochs_it_asks_for():
    assert epochs_of(SSLConfig(trainer_params={"max_epochs": 7}), 10) == 7
