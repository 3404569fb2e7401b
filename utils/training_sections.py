"""Sections of training configurations: networks, losses, devices."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from utils.config import RemovedKey, Section
from utils.config_types import (
    ClassName,
    Count,
    EncoderName,
    FilePath,
    Index,
    NotNegative,
    Period,
    Positive,
    StemStride,
    key,
)
from utils.names import PUBLISHED_STEM_STRIDE

ENCODER = "Encoder network; CompactEncoder is small and not the paper's."
STEM_STRIDE = "Stride of the encoder's first convolution; 1 is meant for images of native size."
OUT_SIZE_ENC = "Number of features of the encoder; only checked against it. `null`: not checked."


class ModelParams(Section):
    """The network of pretraining."""

    name: Literal["VNIbCReg", "VIbCRegTNC", "VIbCReg"] = key(
        "VNIbCReg",
        "Method of pretraining. `VIbCReg` has no temporal term and needs `RandomCrop`; "
        "`VIbCRegTNC` is an older name of `VNIbCReg`.",
    )
    in_channels: Literal[1] = key(1, "Number of channels of an image.")
    out_size_enc: Count | None = key(None, OUT_SIZE_ENC)
    proj_hid: Count = key(4096, "Hidden features of the projector.")
    proj_out: Count = key(
        4096,
        "Output features of the projector; above 64 a multiple of 64 (groups of IterNorm).",
    )
    backbone_type: EncoderName = key("ResNet34Encoder", ENCODER)
    stem_stride: StemStride = key(PUBLISHED_STEM_STRIDE, STEM_STRIDE)


class LoadEncoder(Section):
    """Which encoder a classifier begins with."""

    ckpt_fname: FilePath = key(
        "none",
        "Pretrained encoder: an `encoder-ep_N.ckpt` or `last.ckpt`. `none`: train from scratch.",
    )
    backbone_type: EncoderName = key("ResNet34Encoder", f"{ENCODER} The pretraining's.")
    stem_stride: StemStride = key(PUBLISHED_STEM_STRIDE, f"{STEM_STRIDE} The pretraining's.")

    @property
    def from_scratch(self) -> bool:
        """Whether the encoder starts from random weights."""
        return self.ckpt_fname == "none"


class LearningRates(Section):
    """Learning rates of encoder and classifier."""

    encoder: Positive = Field(description="Initial learning rate of the encoder.")
    clf: Positive = Field(description="Initial learning rate of the classifier.")


class TrainingParams(Section):
    """Keys of ``exp_params`` that all three trainings have."""

    LR: Positive = key(
        1e-3,
        "Initial learning rate; it falls to 0 as a cosine. `ft`: one number, or one each for "
        "encoder and classifier. From scratch both learn at the classifier's.",
    )
    weight_decay: NotNegative = key(0.0, "Weight decay of Adam.")
    gradient_clip_val: NotNegative = key(0.0, "Largest norm of the gradient; 0: no clipping.")
    model_save_ep_period: Period = key(
        10,
        "Epochs between checkpoints; the last epoch is always saved. -1: no checkpoints.",
    )


class SSLParams(TrainingParams):
    """``exp_params`` of pretraining."""

    lambda_: NotNegative = key(10.0, "Weight of the invariance term.")
    mu: NotNegative = key(10.0, "Weight of the variance term.")
    nu: NotNegative = key(10.0, "Weight of the covariance term.")
    rho: NotNegative = key(13.0, "Weight of the temporal term (TNC).")
    use_diag_loss: StrictBool = key(True, "Correlations are part of the temporal term.")
    knn_acc_record_ep_period: Period = key(
        10,
        "Epochs between checks of the encoder by its 5 nearest neighbours. -1: no checks.",
    )
    out_size_enc: Count | None = key(None, OUT_SIZE_ENC)


class ClassifierParams(TrainingParams):
    """What both classifiers have in ``exp_params``."""

    val_ep_period: Count | None = key(
        None,
        "Epochs between evaluations on the test events, for the curves; nothing is chosen by them. "
        "`null`: about twenty evaluations in a training.",
    )
    label_smoothing: Annotated[NotNegative, Field(lt=1)] = key(
        0.0,
        "Label smoothing of the cross-entropy in training.",
    )
    n_classes: Count | None = key(
        None,
        "Number of classes; only checked against the data. `null`: not checked.",
    )
    use_class_weight: StrictBool = key(
        True,
        "Weight classes by the inverse of their number of training events.",
    )
    zero_weight_classes: tuple[ClassName, ...] | None = key(
        None,
        "Classes outside the loss. `null`: Noise for aknes and simulated events, none for others.",
    )

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        if self.use_class_weight or not self.zero_weight_classes:
            return []
        return ["exp_params.zero_weight_classes: has no meaning with use_class_weight false"]


class FinetuneParams(ClassifierParams):
    """``exp_params`` of finetune.py."""

    removed = {
        "teacher_ckpt": RemovedKey(
            "none",
            "self-training gained nothing for the ensemble, and little for single channels "
            "(docs/log/few_labels_search.md); leave the key out",
        )
    }
    # one rate, or one for each part: wider than in the parent class
    LR: Positive | LearningRates = LearningRates(encoder=5e-4, clf=1e-3)  # type: ignore[assignment]
    out_size_enc: Count | None = key(None, OUT_SIZE_ENC)
    head: Literal["adam", "logistic_regression"] = key(
        "adam",
        "How the linear classifier is trained. `adam`: with the encoder, or alone with "
        "`freeze_encoders`. `logistic_regression`: alone, on all living channels, until it has "
        "converged; takes seconds. With `load_encoder.ckpt_fname` none the encoder stays random, "
        "as a control.",
    )
    freeze_encoders: StrictBool = key(
        False,
        "Linear evaluation: only the classifier learns. Needs `load_encoder.ckpt_fname`.",
    )
    freeze_bn_stat_train: StrictBool = key(
        False,
        "Keep BatchNorm's statistics, for few labels. Needs `load_encoder.ckpt_fname`.",
    )


class OriginalParams(ClassifierParams):
    """``exp_params`` of the previous study."""

    weight_decay: NotNegative = 1e-4


class TrainerParams(Section):
    """Devices and length of a training."""

    gpus: tuple[Index, ...] = key(
        (0,),
        "GPUs to train on; `[]`: the CPU. On a machine without GPUs the CPU is used, with a note.",
    )
    max_epochs: Count = key(100, "Epochs of training.")
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = key(
        "32-true",
        "Number format of the network; normalisation statistics and losses are float32 in any. "
        "`auto`: `bf16-mixed` where the device is faster with it, else `32-true`.",
    )
    num_nodes: Count = key(1, "Number of machines.")
    strategy: Literal["auto", "ddp"] = key("auto", "How Lightning shares work among several GPUs.")


class SSLTrainerParams(TrainerParams):
    """Devices and length of a pretraining."""

    max_epochs: Count = 300


class ClassifierTrainerParams(TrainerParams):
    """Devices and length of a classifier's training."""

    min_steps: Index = key(
        0,
        "Train for at least so many steps (batches): with few labels an epoch has few, and epochs "
        "are added to `max_epochs`. 0: never.",
    )


class OriginalTrainerParams(ClassifierTrainerParams):
    """Devices and length of the previous study's training."""

    max_epochs: Count = 50
