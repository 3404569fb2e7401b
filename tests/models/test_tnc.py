import numpy as np
import pytest
import torch
from torch import nn

from models.heads import Discriminator
from models.losses import pearson, tnc_loss


@pytest.fixture
def triple():
    return torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0)).unbind(0)


def bce(logit: np.ndarray, target: float) -> float:
    p = 1 / (1 + np.exp(-logit))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()


@pytest.mark.parametrize("use_diag_loss", [False, True])
def test_loss_equals_retyped_formula(triple, use_diag_loss):
    discriminator = Discriminator(5).eval()
    loss, parts = tnc_loss(discriminator, *triple, use_diag_loss)
    y, y_l, y_k = triple
    near, far = (discriminator(y, other).detach().double().numpy() for other in (y_l, y_k))
    expected = bce(near, 1) + bce(far, 0)
    assert parts["tnc_bce"].item() == pytest.approx(expected, rel=1e-5)
    assert parts["tnc_accuracy"].item() == pytest.approx(((near > 0).sum() + (far <= 0).sum()) / 14)
    if use_diag_loss:
        c_p = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(y.numpy(), y_l.numpy())])
        c_n = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(y.numpy(), y_k.numpy())])
        expected += ((1 - c_p) ** 2).mean() + (c_n**2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_discriminator_is_the_published_network():
    layers = Discriminator(512).layers
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert (
        layers[0].weight.shape == (2048, 1024)
        and layers[3].weight.shape == (1, 2048)
        and layers[2].p == 0.5
    )
    bound = np.sqrt(6 / (1024 + 2048))  # Xavier, uniform
    assert 0.99 * bound < layers[0].weight.abs().max() <= bound
    assert layers[0].weight.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.01)


def test_pearson_is_invariant_to_scale_and_finite_for_constants(triple):
    y, y_l, _ = triple
    torch.testing.assert_close(pearson(2 * y + 1, y_l), pearson(y, y_l))
    torch.testing.assert_close(pearson(y, y), torch.ones(7))
    assert torch.equal(pearson(torch.ones(2, 5), y[:2]), torch.zeros(2))
