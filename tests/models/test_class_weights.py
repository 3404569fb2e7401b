import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from models.class_weights import balanced_class_weights, weighted_cross_entropy


def test_class_weights_are_balanced_over_the_counted_classes():
    labels = np.repeat([0, 1, 2, 3], [2, 30, 50, 20])
    expected = compute_class_weight("balanced", classes=np.array([1, 2, 3]), y=labels[labels > 0])
    np.testing.assert_allclose(balanced_class_weights(labels, 4, without=[0]), [0, *expected])
    np.testing.assert_allclose(
        balanced_class_weights(labels, 4),
        compute_class_weight("balanced", classes=np.arange(4), y=labels),
    )
    assert balanced_class_weights([0, 0, 2, 2], 3) == [1, 0, 1]


def test_loss_is_the_weighted_mean_and_survives_a_batch_without_weight():
    logits, labels, weights = (
        torch.randn(9, 3),
        torch.tensor([0, 1, 2] * 3),
        torch.tensor([0.0, 1.0, 2.0]),
    )
    log_p = logits.log_softmax(1)[torch.arange(9), labels]
    torch.testing.assert_close(
        weighted_cross_entropy(logits, labels, weights),
        -(weights[labels] * log_p).sum() / weights[labels].sum(),
    )
    assert weighted_cross_entropy(logits, torch.zeros(9, dtype=torch.long), weights) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_samples_of_a_class_without_weight_add_nothing_to_loss_and_gradient(smoothing):
    """Also where their logits are not numbers; the others' loss is that of PyTorch without them."""
    weights, labels = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0, 1, 2, 0, 2])
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = weighted_cross_entropy(logits, labels, weights, smoothing)
    loss.backward()
    kept = labels > 0
    alone = logits.detach()[kept].requires_grad_()
    expected = F.cross_entropy(alone, labels[kept], weights, label_smoothing=smoothing)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logits.grad[kept], alone.grad)
    assert (logits.grad[~kept] == 0).all()
    nothing = torch.randn(4, 3, requires_grad=True)
    empty = weighted_cross_entropy(nothing, torch.zeros(4, dtype=torch.long), weights, smoothing)
    empty.backward()
    assert empty == 0 and (nothing.grad == 0).all()
