import pytest

from training.trainer import epochs_between_evaluations
from utils.schema import FinetuneConfig, SSLConfig


@pytest.mark.parametrize(
    ("n_epochs", "period"), [(1, 1), (19, 1), (50, 2), (100, 5), (150, 6), (97, 1), (300, 15)]
)
def test_a_classifier_is_watched_about_twenty_times_and_at_the_end(n_epochs, period):
    trainer = {"max_epochs": n_epochs}
    assert epochs_between_evaluations(FinetuneConfig(trainer_params=trainer)) == period
    wanted = FinetuneConfig(trainer_params=trainer, exp_params={"val_ep_period": 7})
    assert epochs_between_evaluations(wanted) == 7
    assert epochs_between_evaluations(SSLConfig(trainer_params=trainer)) == 1
