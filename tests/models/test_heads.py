import numpy as np
import pytest
import torch
from torch import nn

from models.heads import Discriminator, Projector


def test_projector_layers_and_size():
    projector = Projector(10, 32, 128)
    names = [type(layer).__name__ for layer in projector.layers]
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert names == [*hidden, *hidden, "Linear", "IterNorm"]
    assert projector(torch.randn(6, 10)).shape == (6, 128)
    assert projector.layers[-1].num_groups == 2
    assert Projector(10, 32, 16).layers[-1].num_groups == 1


def test_discriminator_is_the_published_network():
    layers = Discriminator(512).layers
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert layers[0].weight.shape == (2048, 1024) and layers[3].weight.shape == (1, 2048)
    assert layers[2].p == 0.5
    bound = np.sqrt(6 / (1024 + 2048))  # Xavier, uniform
    assert 0.99 * bound < layers[0].weight.abs().max() <= bound
    assert layers[0].weight.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.01)
