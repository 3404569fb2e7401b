"""Networks of the previous study: images to class scores. [LS23 as in L22]

[LS23] Langet & Silverberg, Earth Surf. Dynam. 11, 89, 2023. [L22] Lee, Aune, Langet, Eidsvik, Math.
Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

import torchvision
from torch import nn

from models.encoders import resnet_stem
from utils.names import BACKBONES_WITH_CLF


def build_backbone_with_clf(backbone_type: str, n_classes: int = 8) -> nn.Module:
    """Build a network (N, 1, H, W) -> (N, K) of the previous study. [L22, LS23]

    It is AlexNet, or a ResNet with global max pooling. ``backbone_type`` is a name from
    ``BACKBONES_WITH_CLF``. Raises ``ValueError`` for an unknown name.
    """
    if backbone_type not in BACKBONES_WITH_CLF:
        raise ValueError(
            f"backbone_with_clf_type: found {backbone_type!r}, "
            f"allowed are {', '.join(BACKBONES_WITH_CLF)}"
        )
    model = getattr(torchvision.models, backbone_type.lower())(weights=None, num_classes=n_classes)
    if backbone_type == "AlexNet":
        model.features[0] = nn.Conv2d(1, 64, kernel_size=11, stride=4, padding=2)
    else:
        model.conv1 = resnet_stem(1)
        model.avgpool = nn.AdaptiveMaxPool2d(1)
    return model
