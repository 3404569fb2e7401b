"""The previous study's networks: images to class scores. [LS23 as in L22]"""

import torchvision
from torch import nn

from models.encoders import resnet_stem
from utils.names import BACKBONES_WITH_CLF


def build_backbone_with_clf(backbone_type: str, n_classes: int = 8) -> nn.Module:
    """Build a network (N, 1, H, W) -> (N, K) of the previous study: AlexNet, or a ResNet with global max pooling. [L22, LS23]

    [LS23] Langet & Silverberg, Earth Surf. Dynam. 11, 89, 2023. Raises ``ValueError`` for an unknown name.
    """
    if backbone_type not in BACKBONES_WITH_CLF:
        raise ValueError(
            f"backbone_with_clf_type: found {backbone_type!r}, allowed are {', '.join(BACKBONES_WITH_CLF)}"
        )
    model = getattr(torchvision.models, backbone_type.lower())(weights=None, num_classes=n_classes)
    if backbone_type == "AlexNet":
        model.features[0] = nn.Conv2d(1, 64, kernel_size=11, stride=4, padding=2)
    else:
        model.conv1 = resnet_stem(1)
        model.avgpool = nn.AdaptiveMaxPool2d(1)
    return model
