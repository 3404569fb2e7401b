"""Encoders: torchvision's ResNets for one-channel images, without a classification layer, and the baseline's networks. [L22]

Parameters keep torchvision's names under the attribute ``model``, so weights published in that layout load unchanged.
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from utils.checkpoints import CheckpointError, load_plain
from utils.errors import UserError
from utils.names import ENCODER_SIZES, PUBLISHED_STEM_STRIDE


class EncoderFileError(UserError):
    """Say why weights cannot be loaded into an encoder."""


class ResNetEncoder(nn.Module):
    """Map images (N, 1, H, W) to representations (N, D), D = 128, 512 or 2048, by global average pooling. [L22]"""

    def __init__(
        self, backbone_type: str, in_channels: int = 1, stem_stride: int = PUBLISHED_STEM_STRIDE
    ):
        super().__init__()
        if backbone_type == "CompactEncoder":
            self.model = compact_resnet(in_channels, stem_stride)
        else:
            self.model = getattr(torchvision.models, backbone_type.removesuffix("Encoder").lower())(
                weights=None
            )
            self.model.conv1 = resnet_stem(in_channels, stem_stride)
            self.model.fc = nn.Identity()
        self.out_size, self.stem_stride = ENCODER_SIZES[backbone_type], stem_stride
        self.to(
            memory_format=torch.channels_last
        )  # the layout that convolution kernels are fastest in

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, H, W) to representations (N, D)."""
        return self.model(images)


def compact_resnet(in_channels: int, stem_stride: int) -> nn.Sequential:
    """Build a ResNet of one basic block per stage with a quarter of ResNet18's channels: 309 000 parameters.

    Images (N, 1, H, W) -> representations (N, 128). Layers have torchvision's names and initial weights.
    """
    width = ENCODER_SIZES["CompactEncoder"] // 8
    layers = OrderedDict(
        conv1=resnet_stem(in_channels, stem_stride, width),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        layer1=_residual_stage(width, width, stride=1),
        layer2=_residual_stage(width, 2 * width, stride=2),
        layer3=_residual_stage(2 * width, 4 * width, stride=2),
        layer4=_residual_stage(4 * width, 8 * width, stride=2),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _residual_stage(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or n_in != n_out:
        shortcut = nn.Sequential(
            nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
        )
    return nn.Sequential(BasicBlock(n_in, n_out, stride, shortcut))


def build_encoder(
    backbone_type: str, in_channels: int = 1, stem_stride: int = PUBLISHED_STEM_STRIDE
) -> ResNetEncoder:
    """Build an encoder with random weights; raises ``ValueError`` for an unknown name.

    ``stem_stride`` 1 instead of the published 2 keeps the first convolution at full resolution, for images of native size.
    """
    if backbone_type not in ENCODER_SIZES:
        raise ValueError(
            f"backbone_type: found {backbone_type!r}, allowed are {', '.join(ENCODER_SIZES)}"
        )
    return ResNetEncoder(backbone_type, in_channels, stem_stride)


def resnet_stem(
    in_channels: int, stride: int = PUBLISHED_STEM_STRIDE, n_filters: int = 64
) -> nn.Conv2d:
    return nn.Conv2d(in_channels, n_filters, kernel_size=7, stride=stride, padding=3, bias=False)


def load_encoder_weights(encoder: nn.Module, path: str | Path) -> list[int] | None:
    """Load an encoder file ``{epoch, model_state_dict}``, or the encoder out of a Lightning checkpoint.

    Returns the identities of the events that pretraining has seen, None if the file does not say.
    Raises ``EncoderFileError`` that names the missing and unexpected keys. No code in the file is ever run.
    """
    path = Path(path)
    if not path.is_file():
        raise EncoderFileError(f"load_encoder.ckpt_fname: no such file: {path}")
    try:
        content = load_plain(path)
    except CheckpointError as error:
        raise EncoderFileError(str(error)) from error
    weights = _encoder_weights(path, content)
    expected, stride = encoder.state_dict(), _stem_stride(content)
    if stride != encoder.stem_stride:  # the weights would fit
        raise EncoderFileError(
            f"{path}: was trained with stem_stride {stride}; set load_encoder.stem_stride to that"
        )
    missing, unexpected = (
        sorted(expected.keys() - weights.keys()),
        sorted(weights.keys() - expected.keys()),
    )
    wrong = sorted(
        k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape
    )
    problems = [
        f"{what}: {_few(keys)}"
        for what, keys in (
            ("missing keys", missing),
            ("unexpected keys", unexpected),
            ("keys of another shape", wrong),
        )
        if keys
    ]
    if problems:
        raise EncoderFileError(
            f"{path}: does not fit load_encoder.backbone_type; {'; '.join(problems)}"
        )
    try:
        encoder.load_state_dict(weights)
    except (RuntimeError, NotImplementedError) as error:  # sparse tensors, or such without content
        raise EncoderFileError(
            f"{path}: holds tensors that are no weights ({' '.join(str(error).split())[:200]})"
        ) from error
    return _seen_events(path, content)


def _seen_events(path: Path, content: dict) -> list[int] | None:
    seen = content.get("seen_events")
    numbers = isinstance(seen, list) and all(isinstance(event, int) for event in seen)
    if seen is not None and not numbers:
        raise EncoderFileError(f"{path}: seen_events is no list of integers; pretrain again")
    return seen


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
            f"{path}: holds neither model_state_dict (an encoder file) nor state_dict (a Lightning checkpoint)"
        )
    return weights


def _stem_stride(content: dict) -> object:
    """Return the stride that an encoder was trained with; files that do not say so are from the published one."""
    parameters = content.get("hyper_parameters")
    inside = parameters if isinstance(parameters, dict) else content
    return inside.get("stem_stride", PUBLISHED_STEM_STRIDE)


def _few(keys: list[str], n: int = 4) -> str:
    return ", ".join(keys[:n]) + (f" and {len(keys) - n} more" if len(keys) > n else "")
