"""Models that benchmarks measure; settings without effect on the speed are fixed."""

from collections.abc import Sequence

import torch

from models.event_classifier import EventClassifier
from models.vnibcreg import VNIbCReg

PUBLISHED_IMAGES: dict = {}  # the defaults of LogSpectrogram
NATIVE_IMAGES = {"resize_size": None}


def build_pretraining(
    backbone: str,
    projector: int,
    spectrogram: dict = PUBLISHED_IMAGES,
    kind: type[VNIbCReg] = VNIbCReg,
) -> VNIbCReg:
    """Build a pretraining model with seeded weights."""
    torch.manual_seed(0)
    return kind(
        backbone,
        proj_hid=projector,
        proj_out=projector,
        lambda_=1.0,
        mu=1.0,
        nu=1.0,
        rho=1.0,
        use_diag_loss=True,
        use_tnc=True,
        learning_rate=1e-3,
        weight_decay=0.0,
        augmentations=["NeighboringCrop"],
        spectrogram=spectrogram,
        knn_period=-1,
    )


def build_classifier(
    class_names: Sequence[str],
    backbone: str,
    spectrogram: dict = PUBLISHED_IMAGES,
    **changes,
) -> EventClassifier:
    """Build a classifier with seeded weights; ``changes`` are its further arguments."""
    torch.manual_seed(0)
    return EventClassifier(
        class_names,
        backbone,
        class_weights=None,
        learning_rate=1e-3,
        weight_decay=0.0,
        label_smoothing=0.0,
        freeze_encoder=False,
        freeze_bn_stat_train=False,
        augmentations=[],
        spectrogram=spectrogram,
        **changes,
    )
