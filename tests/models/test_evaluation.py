import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from models.evaluation import effective_rank, evaluate


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


def test_standard_error_counts_events_not_channels(scored):
    log_probs, labels = scored
    found = evaluate(log_probs, labels, n_events=50)
    assert found["accuracy_standard_error"] == pytest.approx(
        np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 50)
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
