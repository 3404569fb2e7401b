"""Encoders: residual networks for one-channel images, without a classification layer. [L22, H16]

The networks have torchvision's parameter names, under the attribute ``model``, and its initial
weights; a test compares both. Weights that were published with these names load unchanged. They are
built here, because the import of torchvision takes longer than the classification of an event.

[H16] He, Zhang, Ren, Sun, *Deep residual learning for image recognition*, CVPR 2016,
arXiv 1512.03385.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from utils.checkpoints import CheckpointError, load_plain, require_finite_weights
from utils.errors import UserError
from utils.names import ENCODER_SIZES, PUBLISHED_STEM_STRIDE


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


class EncoderFileError(UserError):
    """Weights cannot be loaded into an encoder."""


class EncoderOrigin(NamedTuple):
    """What an encoder's file says about its training."""

    seen_events: list[int] | None  # identities of the events that trained it; None: unknown
    labelled_events: list[int]  # those of them whose labels it was taught
    spectrogram: dict[str, Any] | None  # arguments of ``LogSpectrogram``; None: unknown


class ResNetEncoder(nn.Module):
    """ResNet with global average pooling: images (N, 1, H, W) -> representations (N, D). [L22]

    D is 128 (CompactEncoder), 512 or 2048.
    """

    def __init__(
        self, backbone_type: str, in_channels: int = 1, stem_stride: int = PUBLISHED_STEM_STRIDE
    ):
        super().__init__()
        if backbone_type == "CompactEncoder":
            self.model: nn.Module = compact_resnet(in_channels, stem_stride)
        else:
            model = ResNet(backbone_type.removesuffix("Encoder"))
            model.conv1, model.fc = resnet_stem(in_channels, stem_stride), nn.Identity()
            self.model = model
        self.out_size, self.stem_stride = ENCODER_SIZES[backbone_type], stem_stride
        self.to(memory_format=torch.channels_last)  # fastest for convolutions

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, H, W) to representations (N, D)."""
        return self.model(images)


def compact_resnet(in_channels: int, stem_stride: int) -> nn.Sequential:
    """Build a small ResNet (309 000 parameters): images (N, 1, H, W) -> (N, 128).

    It has one basic block per stage and a quarter of ResNet18's channels. Layer names and the
    distributions of the initial weights are those of torchvision.
    """
    width = ENCODER_SIZES["CompactEncoder"] // 8
    layers = OrderedDict(
        conv1=resnet_stem(in_channels, stem_stride, width),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        layer1=residual_stage(BasicBlock, width, width, 1, stride=1),
        layer2=residual_stage(BasicBlock, width, 2 * width, 1, stride=2),
        layer3=residual_stage(BasicBlock, 2 * width, 4 * width, 1, stride=2),
        layer4=residual_stage(BasicBlock, 4 * width, 8 * width, 1, stride=2),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    model = nn.Sequential(layers)
    initialise_convolutions(model)
    return model


def build_encoder(
    backbone_type: str, in_channels: int = 1, stem_stride: int = PUBLISHED_STEM_STRIDE
) -> ResNetEncoder:
    """Build an encoder with random weights.

    ``backbone_type`` is a key of ``ENCODER_SIZES``. ``stem_stride`` is the stride of the first
    convolution: 2 as published, or 1 for spectrograms that are not enlarged by ``resize``. Raises
    ``ValueError`` for an unknown name.
    """
    if backbone_type not in ENCODER_SIZES:
        raise ValueError(
            f"backbone_type: found {backbone_type!r}, allowed are {', '.join(ENCODER_SIZES)}"
        )
    return ResNetEncoder(backbone_type, in_channels, stem_stride)


def resnet_stem(
    in_channels: int, stride: int = PUBLISHED_STEM_STRIDE, n_filters: int = 64
) -> nn.Conv2d:
    """Build the first convolution of a ResNet."""
    return nn.Conv2d(in_channels, n_filters, kernel_size=7, stride=stride, padding=3, bias=False)


def load_encoder_weights(encoder: nn.Module, path: str | Path) -> EncoderOrigin:
    """Load weights into an encoder from an encoder file or a Lightning checkpoint.

    An encoder file holds ``{epoch, model_state_dict}``. Returns what the file says about the
    training. Raises ``EncoderFileError`` with the missing and unexpected keys, and for weights that
    are not finite. Code in the file is never run.
    """
    path = Path(path)
    if not path.is_file():
        raise EncoderFileError(f"load_encoder.ckpt_fname: no such file: {path}")
    try:
        content = load_plain(path)
        weights = _encoder_weights(path, content)
    except CheckpointError as error:
        raise EncoderFileError(str(error)) from error
    expected, stride = encoder.state_dict(), _stem_stride(content)
    if stride != encoder.stem_stride:  # shapes are the same, so the loading would not notice
        raise EncoderFileError(
            f"{path}: was trained with stem_stride {stride}; set load_encoder.stem_stride to that"
        )
    common = expected.keys() & weights.keys()
    differences = {
        "missing keys": expected.keys() - weights.keys(),
        "unexpected keys": weights.keys() - expected.keys(),
        "keys of another shape": {k for k in common if expected[k].shape != weights[k].shape},
    }
    problems = [f"{what}: {_shorten(sorted(keys))}" for what, keys in differences.items() if keys]
    if problems:
        raise EncoderFileError(
            f"{path}: does not fit load_encoder.backbone_type; {'; '.join(problems)}"
        )
    try:
        encoder.load_state_dict(weights)
    except (RuntimeError, NotImplementedError) as error:  # sparse tensors, or tensors without data
        raise EncoderFileError(
            f"{path}: contains tensors that are no weights ({' '.join(str(error).split())[:200]})"
        ) from error
    try:
        require_finite_weights(path, encoder.state_dict())
    except CheckpointError as error:
        raise EncoderFileError(str(error)) from error
    return _origin(path, content)


def _origin(path: Path, content: dict[str, Any]) -> EncoderOrigin:
    """Return what a file says about the training; earlier versions did not write all of it."""
    seen, labelled = content.get("seen_events"), content.get("labelled_events", [])
    for name, events in (
        ("seen_events", [] if seen is None else seen),
        ("labelled_events", labelled),
    ):
        if not isinstance(events, list) or not all(isinstance(event, int) for event in events):
            raise EncoderFileError(f"{path}: {name} is no list of integers; train again")
    options = content.get("hyper_parameters")  # of a Lightning checkpoint
    settings = (options if isinstance(options, dict) else content).get("spectrogram")
    return EncoderOrigin(seen, labelled, settings if isinstance(settings, dict) else None)


def _encoder_weights(path: Path, content: object) -> dict[str, Tensor]:
    weights = None
    if isinstance(content, dict):
        weights = content.get("model_state_dict")
        if weights is None and isinstance(content.get("state_dict"), dict):
            prefix = "encoder."
            weights = {
                k.removeprefix(prefix): v
                for k, v in content["state_dict"].items()
                if str(k).startswith(prefix)
            }
    if not isinstance(weights, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
    ):
        raise EncoderFileError(
            f"{path}: contains neither model_state_dict (an encoder file) "
            "nor state_dict (a Lightning checkpoint)"
        )
    return weights


def _stem_stride(content: dict[str, Any]) -> object:
    """Return the stride of the first convolution; the published one if the file has no entry."""
    parameters = content.get("hyper_parameters")  # of a Lightning checkpoint
    entries = parameters if isinstance(parameters, dict) else content
    return entries.get("stem_stride", PUBLISHED_STEM_STRIDE)


def _shorten(keys: list[str], n: int = 4) -> str:
    return ", ".join(keys[:n]) + (f" and {len(keys) - n} more" if len(keys) > n else "")
