"""Networks of the previous study: images to class scores. [LS23 as in L22]

[LS23] Langet & Silverberg, Earth Surf. Dynam. 11, 89, 2023. [L22] Lee, Aune, Langet, Eidsvik, Math.
Geosci. 2022, doi 10.1007/s11004-022-10037-7. [K14] Krizhevsky, *One weird trick for parallelizing
convolutional neural networks*, arXiv 1404.5997: the AlexNet that torchvision has.
"""

import torch
from torch import Tensor, nn

from models.encoders import ResNet, resnet_stem
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
    if backbone_type == "AlexNet":
        return AlexNet(n_classes)
    model = ResNet(backbone_type, n_classes)
    model.conv1 = resnet_stem(1)
    model.avgpool = nn.AdaptiveMaxPool2d(1)
    return model


class AlexNet(nn.Module):
    """AlexNet for one-channel images, (N, 1, H, W) -> (N, K), with torchvision's names. [K14]"""

    def __init__(self, n_classes: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, n_classes),
        )
        # replaced last, as torchvision's was: a seed gives the same weights
        self.features[0] = nn.Conv2d(1, 64, kernel_size=11, stride=4, padding=2)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to class scores."""
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
