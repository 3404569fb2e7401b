"""Residual networks with torchvision's parameter names and initial weights.

[H16] He, Zhang, Ren, Sun, *Deep residual learning for image recognition*, CVPR 2016,
arXiv 1512.03385. Built without torchvision, whose import takes longer than the classification of
an event; a test compares weights and outputs with torchvision's.
"""

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: (N, C, H, W) -> (N, C', H', W'). [H16, figure 5]"""

    expansion = 1

    def __init__(
        self, n_in: int, n_filters: int, stride: int = 1, downsample: nn.Module | None = None
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_filters)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_filters, n_filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_filters)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Add the shortcut to the result of the convolutions."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 (with the stride) and 1 x 1, and a shortcut. [H16, figure 5]"""

    expansion = 4

    def __init__(
        self, n_in: int, n_filters: int, stride: int = 1, downsample: nn.Module | None = None
    ):
        super().__init__()
        n_out = n_filters * self.expansion
        self.conv1 = nn.Conv2d(n_in, n_filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_filters)
        self.conv2 = nn.Conv2d(n_filters, n_filters, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_filters)
        self.conv3 = nn.Conv2d(n_filters, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Add the shortcut to the result of the convolutions."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        return self.relu(out)


Block = type[BasicBlock] | type[Bottleneck]
# block and number of blocks in each of the four stages [H16, table 1]
DEPTHS: dict[str, tuple[Block, tuple[int, int, int, int]]] = {
    "ResNet18": (BasicBlock, (2, 2, 2, 2)),
    "ResNet34": (BasicBlock, (3, 4, 6, 3)),
    "ResNet50": (Bottleneck, (3, 4, 6, 3)),
    "ResNet152": (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """Residual network for images of three channels: (N, 3, H, W) -> (N, K). [H16]

    ``depth`` is a key of ``DEPTHS``. Other first convolutions, poolings and last layers replace
    ``conv1``, ``avgpool`` and ``fc``: the layers are made in torchvision's order, so that a seed
    gives the weights that it gave with torchvision.
    """

    def __init__(self, depth: str, n_classes: int = 1000):
        super().__init__()
        block, n_blocks = DEPTHS[depth]
        self.conv1: nn.Module = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = residual_stage(block, 64, 64, n_blocks[0], stride=1)
        self.layer2 = residual_stage(block, 64 * block.expansion, 128, n_blocks[1], stride=2)
        self.layer3 = residual_stage(block, 128 * block.expansion, 256, n_blocks[2], stride=2)
        self.layer4 = residual_stage(block, 256 * block.expansion, 512, n_blocks[3], stride=2)
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(512 * block.expansion, n_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to what ``fc`` makes of the pooled features."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def residual_stage(
    block: Block, n_in: int, n_filters: int, n_blocks: int, stride: int
) -> nn.Sequential:
    """Return ``n_blocks`` blocks; the first has the stride, and changes the number of channels."""
    n_out, shortcut = n_filters * block.expansion, None
    if stride != 1 or n_in != n_out:
        shortcut = nn.Sequential(
            nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
        )
    first = block(n_in, n_filters, stride, shortcut)
    return nn.Sequential(first, *(block(n_out, n_filters) for _ in range(n_blocks - 1)))


def initialise_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions from He's normal distribution of their outputs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
