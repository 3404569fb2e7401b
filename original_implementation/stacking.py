"""The previous study's input: one trace per event, the noise-weighted stack of its channels. [LS23 as in L22]

[LS23] Langet & Silverberg, Earth Surf. Dynam.
11, 89, 2023. Everything else is shared with ``models.event_classifier``.
"""

import torch
from torch import Tensor, nn

from models.event_classifier import EventClassifier
from original_implementation.networks import build_backbone_with_clf


def stack_channels(waveforms: Tensor) -> Tensor:
    """Stack channels (…, S, T) to one trace (…, T), weighted by 1 / std and normalised; a constant channel has weight 0."""
    waveforms = waveforms.float()
    alive = waveforms.amax(-1, keepdim=True) > waveforms.amin(
        -1, keepdim=True
    )  # std of a constant may round to above 0
    weights = torch.where(alive, 1 / waveforms.std(-1, keepdim=True), 0)
    weights = weights / weights.sum(-2, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (weights * waveforms).sum(-2)


class StackedTraceClassifier(EventClassifier):
    """Classify the stacked trace of each event with AlexNet or a max-pooling ResNet. [LS23 as in L22]"""

    trace_kind = "stacked_trace"

    @staticmethod
    def build_network(
        backbone_type: str, stem_stride: int, n_classes: int
    ) -> tuple[nn.Module, nn.Module]:
        """Build a network with its own classifier, (N, 1, H, W) -> (N, K), and its own published stem."""
        return build_backbone_with_clf(backbone_type, n_classes), nn.Identity()

    def traces(self, waveforms: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Stack the living channels (B, S, T) of each event to one trace (B, 1, T)."""
        stacked = stack_channels(waveforms * mask[..., None]).unsqueeze(1)
        return stacked, mask.any(-1, keepdim=True)
