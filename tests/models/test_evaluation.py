import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from models.calibration import reliability
from models.evaluation import N_CALIBRATION_BINS, effective_rank, evaluate


@pytest.fixture(scope="module")
def scored():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (200,), generator=generator)
    logits = torch.randn(200, 6, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 6)
    return logits.log_softmax(1), labels  # classes 4 and 5 never occur


def test_against_scikit_learn(scored):
    log_probs, labels = scored
    found, predicted = evaluate(log_probs, labels), log_probs.argmax(1).numpy()
    true = labels.numpy()
    occurring = sorted(set(true) | set(predicted))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(true, predicted))
    assert found["balanced_accuracy"] == pytest.approx(
        np.mean(sk.recall_score(true, predicted, labels=range(4), average=None))
    )
    assert found["macro_f1"] == pytest.approx(
        sk.f1_score(true, predicted, labels=occurring, average="macro")
    )
    assert found["nll"] == pytest.approx(
        sk.log_loss(true, log_probs.exp().numpy(), labels=range(6)), rel=1e-5
    )
    assert found["confusion"] == sk.confusion_matrix(true, predicted, labels=range(6)).tolist()
    assert found["recall"][4:] == [None, None]
    assert found["accuracy_standard_error"] == pytest.approx(
        np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 200)
    )


def test_a_probability_of_one_is_in_the_last_bin_as_in_the_diagram():
    top, right = torch.tensor([1.0, 1.0, 0.95, 0.95]), torch.tensor([True, False, True, True])
    log_probs = torch.stack([top, 1 - top], 1).log()
    found = evaluate(log_probs, (~right).long())["expected_calibration_error"]
    assert found == pytest.approx(0.225)  # |3/4 - mean(top)|
    confidence, accuracy, count = reliability(top, right, N_CALIBRATION_BINS)
    assert found == pytest.approx(float(((accuracy - confidence).abs() * count).sum() / 4))


def test_calibration_error_is_the_binned_gap(scored):
    log_probs, labels = scored
    confidence, predicted = log_probs.exp().max(1)
    right = (predicted == labels).float()
    bins = torch.bucketize(confidence, torch.linspace(0, 1, 16)[1:-1], right=True)
    gap = sum(
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).float().mean()
        for b in bins.unique()
    )
    assert evaluate(log_probs, labels)["expected_calibration_error"] == pytest.approx(
        gap.item(), abs=1e-5
    )


def test_channels_of_an_event_share_its_weight(scored):
    """Against scikit-learn with sample weights, and against the mean of the events' shares."""
    log_probs, labels = scored
    n_channels = np.r_[90, np.full(10, 1), np.full(20, 5)]
    events = np.repeat(np.arange(len(n_channels)), n_channels)
    of_event = torch.randint(0, 4, (len(n_channels),), generator=torch.Generator().manual_seed(1))
    labels, weights = of_event[events], 1 / n_channels[events]
    found = evaluate(log_probs, labels, torch.from_numpy(events))
    true, predicted = labels.numpy(), log_probs.argmax(1).numpy()
    right = np.array([(predicted == true)[events == e].mean() for e in range(len(n_channels))])
    assert found["n_events"] == 31 and found["accuracy"] == pytest.approx(right.mean())
    assert found["accuracy_standard_error"] == pytest.approx(right.std() / np.sqrt(31))
    np.testing.assert_allclose(
        found["confusion"],
        sk.confusion_matrix(true, predicted, labels=range(6), sample_weight=weights),
    )
    recalls = sk.recall_score(true, predicted, labels=range(4), average=None, sample_weight=weights)
    assert found["recall"][:4] == pytest.approx(recalls)
    one = right[of_event.numpy() == 1]
    assert found["recall"][1] == pytest.approx(one.mean())
    assert found["recall_standard_error"][1] == pytest.approx(one.std() / np.sqrt(len(one)))
    assert found["nll"] == pytest.approx(
        sk.log_loss(true, log_probs.exp().numpy(), labels=range(6), sample_weight=weights), rel=1e-5
    )


def test_events_of_one_channel_are_evaluated_as_events(scored):
    log_probs, labels = scored
    of_channels = evaluate(log_probs, labels, torch.arange(200).flip(0))
    for name, value in evaluate(log_probs, labels).items():
        np.testing.assert_allclose(
            np.array(of_channels[name], float), np.array(value, float), atol=1e-6
        )


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(500, 8, generator=generator)
    singular = np.linalg.svd((y - y.mean(0)).numpy(), compute_uv=False)
    share = singular / singular.sum()
    assert effective_rank(y) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)
    assert 7.9 < effective_rank(y) <= 8
    assert effective_rank(y[:, :1] @ torch.ones(1, 8) + 5) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.ones(10, 4)) == 1  # collapsed


def test_means_are_over_the_classes_that_could_be_learned(scored):
    """A class that is never predicted would lower them by its share."""
    log_probs, labels = scored
    log_probs = log_probs.clone()
    log_probs[:, 1] = -50.0  # without weight in training
    found = evaluate(log_probs, labels, learned=[True, False, True, True, True, True])
    predicted, kept = log_probs.argmax(1).numpy(), [0, 2, 3]
    recall = sk.recall_score(labels, predicted, average=None, labels=range(6), zero_division=0)
    assert found["balanced_accuracy"] == pytest.approx(recall[kept].mean())
    f1 = sk.f1_score(labels, predicted, average=None, labels=range(6), zero_division=0)
    in_use = [k for k in (0, 2, 3, 4, 5) if (labels == k).any() or (predicted == k).any()]
    assert found["macro_f1"] == pytest.approx(f1[in_use].mean())
    assert found["recall"][1] == 0 and found["balanced_accuracy"] > np.mean(recall[:4])
