import pytest

from training.trainer import epochs_between_evaluations, epochs_of
from utils.schema import FinetuneConfig, SSLConfig


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
