import pytest
import torch
import torchvision

from models.resnet import DEPTHS, ResNet


@pytest.mark.parametrize("depth", DEPTHS)
def test_weights_and_outputs_are_those_of_torchvision(depth):
    torch.manual_seed(0)
    ours = ResNet(depth, n_classes=5)
    torch.manual_seed(0)
    reference = getattr(torchvision.models, depth.lower())(weights=None, num_classes=5)
    expected = reference.state_dict()
    assert list(ours.state_dict()) == list(expected)
    assert all(torch.equal(found, expected[name]) for name, found in ours.state_dict().items())
    images = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), reference(images))  # and BatchNorm's statistics follow
        assert torch.equal(ours.eval()(images), reference.eval()(images))
