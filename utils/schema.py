"""Configurations of the three trainings; the source of docs/configuration.md."""

from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from utils.config import Section
from utils.config_types import Name, Seed, key
from utils.dataset_sections import (
    ClassifierDataset,
    DatasetParams,
    LabelledDataset,
    SSLDataset,
)
from utils.names import BACKBONES_WITH_CLF, ENCODER_SIZES, WHITENING_GROUP_SIZE
from utils.training_sections import (
    ClassifierTrainerParams,
    FinetuneParams,
    LearningRates,
    LoadEncoder,
    ModelParams,
    OriginalParams,
    OriginalTrainerParams,
    SSLParams,
    SSLTrainerParams,
    TrainerParams,
    TrainingParams,
)

Change = Literal[
    "RandomTimeShift", "RandomAmplitudeJitter", "RandomMask", "RandomNoise", "ToTensor"
]
View = Literal["NeighboringCrop", "RandomCrop", "WholeEvent"]
VIEWS_OF_MODEL = {"VIbCReg": ("RandomCrop", "WholeEvent")}  # the others: NeighboringCrop
TRAINING = "Loss, learning rate, checkpoints."
DATASET = "Events, their division, their images."
AUGMENTATIONS = (
    "Random changes of the images in training, in this order. `RandomTimeShift` moves an image by "
    "up to an eighth of its length, `RandomAmplitudeJitter` multiplies it by 0.7 to 1.3, "
    "`RandomMask` blanks a band of frequencies and a stretch of time, `RandomNoise` adds noise, "
    "`ToTensor` changes nothing. With `exp_params.head: logistic_regression`, the head learns from "
    "each channel as it was recorded and from two changed copies. `ssl` needs one view: "
    "`NeighboringCrop` (VNIbCReg), `RandomCrop` or `WholeEvent` (VIbCReg)."
)


class RunConfig(Section):
    """Keys that all three configurations have."""

    kind: ClassVar[str]
    seed: Seed = key(0, "Seed of initial weights, random draws and the order of events.")
    run_name: Name | None = key(
        None,
        "Name of the run folder under runs/; `null`: the date and time of the start.",
    )
    logger: tuple[Literal["csv", "tensorboard", "wandb"], ...] = key(
        ("csv",),
        "Where metrics go; metrics.csv is always written. wandb is online if you are logged in, "
        "offline otherwise; it never asks.",
    )
    trainer_params: TrainerParams = key(TrainerParams(), "Devices and length of the training.")
    if TYPE_CHECKING:  # defined by each subclass, in the order of its file
        dataset: DatasetParams = DatasetParams()
        exp_params: TrainingParams = TrainingParams()

    @property
    def n_epochs(self) -> int:
        """Epochs of training."""
        return self.trainer_params.max_epochs

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        found = self.dataset.contradictions()
        if len(set(self.trainer_params.gpus)) < len(self.trainer_params.gpus):
            found.append("trainer_params.gpus: contains duplicates")
        if self.dataset.is_ssl != (self.kind == "ssl"):
            found.append(
                f"dataset.is_ssl: found {self.dataset.is_ssl}; it is true for sslearn.py only"
            )
        return found


class SSLConfig(RunConfig):
    """Configuration of sslearn.py."""

    kind = "ssl"
    model_params: ModelParams = key(ModelParams(), "The network of pretraining.")
    exp_params: SSLParams = key(SSLParams(), TRAINING)
    trainer_params: SSLTrainerParams = SSLTrainerParams()
    dataset: SSLDataset = key(SSLDataset(), DATASET)
    augmentations: tuple[View | Change, ...] = key(
        ("NeighboringCrop", "RandomAmplitudeJitter", "ToTensor"),
        AUGMENTATIONS,
    )

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        found = super().contradictions()
        found += _wrong_size("model_params", self.model_params, self.model_params.out_size_enc)
        found += _wrong_size("exp_params", self.model_params, self.exp_params.out_size_enc)
        views = [name for name in self.augmentations if name in get_args(View)]
        allowed = VIEWS_OF_MODEL.get(self.model_params.name, ("NeighboringCrop",))
        if len(views) != 1 or views[0] not in allowed:
            found.append(
                f"augmentations: found {', '.join(views) or 'no view'}; "
                f"model {self.model_params.name} needs {' or '.join(allowed)}, once"
            )
        size = self.model_params.proj_out
        group, batch = min(size, WHITENING_GROUP_SIZE), self.dataset.batch_size
        if batch <= group:
            found.append(
                f"dataset.batch_size: found {batch}; IterNorm whitens {group} features together "
                f"and needs more events than that. Set it to at least {group + 1}, or lower "
                f"model_params.proj_out below {batch}"
            )
        if size > WHITENING_GROUP_SIZE and size % WHITENING_GROUP_SIZE:
            found.append(
                f"model_params.proj_out: found {size}; above {WHITENING_GROUP_SIZE} "
                "it must be a multiple of it (IterNorm)"
            )
        if self.model_params.name == "VIbCReg":
            found += self.exp_params.without_meaning(
                "exp_params", ("rho", "use_diag_loss"), "VIbCReg has no temporal term"
            )
        return found


class FinetuneConfig(RunConfig):
    """Configuration of finetune.py."""

    kind = "finetune"
    load_encoder: LoadEncoder = key(LoadEncoder(), "The encoder, and where its weights come from.")
    exp_params: FinetuneParams = key(FinetuneParams(), TRAINING)
    trainer_params: ClassifierTrainerParams = ClassifierTrainerParams()
    dataset: ClassifierDataset = key(ClassifierDataset(), DATASET)
    augmentations: tuple[Change, ...] = key(("ToTensor",), AUGMENTATIONS)

    @property
    def n_epochs(self) -> int:
        """Epochs of training; logistic regression needs one, to collect representations."""
        fitted = self.exp_params.head == "logistic_regression"
        return 1 if fitted else self.trainer_params.max_epochs

    @property
    def learning_rates(self) -> dict[str, float]:
        """Learning rates of encoder and classifier.

        An encoder trained from scratch has the rate of the classifier [L22].
        """
        rate = self.exp_params.LR
        if not isinstance(rate, LearningRates):
            return {"encoder": rate, "clf": rate}
        return {
            "encoder": rate.clf if self.load_encoder.from_scratch else rate.encoder,
            "clf": rate.clf,
        }

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        found = super().contradictions()
        found += self.exp_params.contradictions()
        found += _wrong_size("exp_params", self.load_encoder, self.exp_params.out_size_enc)
        if self.exp_params.head == "logistic_regression":
            found += self._without_meaning_for_logistic_regression()
        elif self.load_encoder.from_scratch:
            for key in ("freeze_encoders", "freeze_bn_stat_train"):
                if getattr(self.exp_params, key):
                    found.append(
                        f"exp_params.{key}: found true with load_encoder.ckpt_fname none; "
                        "a random encoder would stay random"
                    )
        return found

    def _without_meaning_for_logistic_regression(self) -> list[str]:
        why = "logistic regression takes no gradient steps"
        params = ("LR", "weight_decay", "gradient_clip_val", "label_smoothing")
        found = self.exp_params.without_meaning(
            "exp_params", (*params, "freeze_bn_stat_train"), why
        )
        length = ("max_epochs", "min_steps")
        found += self.trainer_params.without_meaning("trainer_params", length, why)
        data = ("return_single_spectrogram_train",)
        return found + self.dataset.without_meaning("dataset", data, "it uses all living channels")


class OriginalConfig(RunConfig):
    """Configuration of original_implementation/train.py."""

    kind = "original"
    backbone_with_clf_type: Literal[*BACKBONES_WITH_CLF] = key(  # type: ignore[valid-type]
        "ResNet34",
        "Network of the previous study.",
    )
    exp_params: OriginalParams = key(OriginalParams(), TRAINING)
    trainer_params: OriginalTrainerParams = OriginalTrainerParams()
    dataset: LabelledDataset = key(LabelledDataset(), DATASET)

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        return super().contradictions() + self.exp_params.contradictions()


def _wrong_size(section: str, params: ModelParams | LoadEncoder, size: int | None) -> list[str]:
    right = ENCODER_SIZES[params.backbone_type]
    if size in (None, right):
        return []
    return [f"{section}.out_size_enc: found {size}; {params.backbone_type} has {right}"]
