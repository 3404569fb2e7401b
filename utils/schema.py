"""Every key of the three configurations with its type, range and default; README.md says what each one means."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool

from utils.config import Section
from utils.names import BACKBONES_WITH_CLF, ENCODER_SIZES, WHITENING_GROUP_SIZE


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _whole(value: Any) -> Any:
    """Read 1e3 as the integer it is."""
    try:
        return float(value) if isinstance(_no_bool(value), str) and not value.isdecimal() else value
    except ValueError:
        raise ValueError("should be a whole number") from None


# PyYAML reads 1e-3 as a string; pydantic makes it a number.
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(lt=2**32), BeforeValidator(_whole)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[Integer, Field(ge=1)]
Period = Annotated[Integer, Field(ge=-1)]
Share = Annotated[Number, Field(gt=0, lt=1)]
Seed = Annotated[Integer, Field(ge=0)]
Seconds = Annotated[Number, Field(le=86400)]  # a day
FilePath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
EncoderName = Literal[*ENCODER_SIZES]
StemStride = Annotated[Integer, Field(ge=1, le=2)]


class ModelParams(Section):
    name: Literal["VNIbCReg", "VIbCRegTNC", "VIbCReg"] = "VNIbCReg"
    in_channels: Literal[1] = 1
    out_size_enc: Count | None = None
    proj_hid: Count = 4096
    proj_out: Count = 4096
    backbone_type: EncoderName = "ResNet34Encoder"
    stem_stride: StemStride = 2


class LoadEncoder(Section):
    ckpt_fname: FilePath = "none"
    backbone_type: EncoderName = "ResNet34Encoder"
    stem_stride: StemStride = 2

    @property
    def from_scratch(self) -> bool:
        """Tell whether no weights are loaded."""
        return self.ckpt_fname == "none"


class LearningRates(Section):
    encoder: Positive
    clf: Positive


class TrainingParams(Section):
    """Hold the keys of ``exp_params`` that all three trainings have."""

    LR: Positive = 1e-3
    weight_decay: NotNegative = 0.0
    gradient_clip_val: NotNegative = 0.0
    model_save_ep_period: Period = 10


class SSLParams(TrainingParams):
    lambda_: NotNegative = 10.0
    mu: NotNegative = 10.0
    nu: NotNegative = 10.0
    rho: NotNegative = 13.0
    use_diag_loss: StrictBool = True
    knn_acc_record_ep_period: Period = 10
    out_size_enc: Count | None = None


class ClassifierParams(TrainingParams):
    label_smoothing: Annotated[NotNegative, Field(lt=1)] = 0.0
    n_classes: Count | None = None
    use_class_weight: StrictBool = True
    zero_weight_classes: tuple[str, ...] | None = None

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        if self.use_class_weight or not self.zero_weight_classes:
            return []
        return ["exp_params.zero_weight_classes: has no meaning with use_class_weight false"]


class FinetuneParams(ClassifierParams):
    LR: Positive | LearningRates = LearningRates(encoder=5e-4, clf=1e-3)
    out_size_enc: Count | None = None
    freeze_encoders: StrictBool = False
    freeze_bn_stat_train: StrictBool = False


class OriginalParams(ClassifierParams):
    weight_decay: NotNegative = 1e-4


class TrainerParams(Section):
    gpus: tuple[Annotated[Integer, Field(ge=0)], ...] = (0,)
    max_epochs: Count = 100
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = "32-true"
    num_nodes: Count = 1
    strategy: Literal["auto", "ddp"] = "auto"


class DatasetParams(Section):
    """Hold the keys of ``dataset`` that all three trainings have."""

    source: Literal["aknes", "folder", "simulated"] = "aknes"
    root: FilePath | None = None
    n_simulated: Annotated[Integer, Field(ge=100)] | None = None
    simulation_seed: Seed | None = None
    sampling_freq: Annotated[Positive, Field(le=1e6)] | None = 1000.0
    duration_s: Annotated[Seconds, Field(gt=0)] | None = None
    max_gap_s: Annotated[Seconds, Field(ge=0)] = 0.0
    skip_unreadable: StrictBool = False
    split: Literal["nested", "random", "by_day"] = "nested"
    train_data_ratio: Share = 0.8
    test_data_ratio: Share = 0.2
    train_test_split_rand_seed: Seed = 0
    batch_size: Annotated[Integer, Field(ge=2)] = 64
    num_workers: Annotated[Integer, Field(ge=0)] = 0
    preload: Literal["none", "ram", "device"] = "none"
    is_ssl: StrictBool = False
    nperseg: Annotated[Integer, Field(ge=8)] = 80
    log_scale: StrictBool = True
    minmax_scale: StrictBool = True
    resize: StrictBool = True
    resize_size: Annotated[Integer, Field(ge=8)] = 128


class SSLTrainerParams(TrainerParams):
    max_epochs: Count = 300


class OriginalTrainerParams(TrainerParams):
    max_epochs: Count = 50


class SSLDataset(DatasetParams):
    batch_size: Annotated[Integer, Field(ge=2)] = 128
    is_ssl: StrictBool = True
    exclude_test_events: StrictBool = True


class LabelledDataset(DatasetParams):
    pre_trigger_s: Positive = 3.0
    calibration_ratio: Annotated[Number, Field(ge=0, lt=1)] = 0.0


class ClassifierDataset(LabelledDataset):
    return_single_spectrogram_train: StrictBool = True
    return_single_spectrogram_test: StrictBool = False


class RunConfig(Section):
    """Hold what all three configurations have."""

    kind: ClassVar[str]
    seed: Seed = 0
    run_name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=100)] | None = None
    logger: tuple[Literal["csv", "tensorboard", "wandb"], ...] = ("csv",)
    trainer_params: TrainerParams = TrainerParams()

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        data, found = self.dataset, []
        if data.train_data_ratio + data.test_data_ratio > 1 + 1e-9:
            found.append(
                f"dataset.train_data_ratio: {data.train_data_ratio} and test_data_ratio {data.test_data_ratio} exceed 1 together"
            )
        if data.source == "folder" and not data.root:
            found.append("dataset.root: missing; source folder needs the folder that holds <Class>/<recording>")
        if data.source == "simulated":
            found += _without_meaning(self, "dataset", ("root", "max_gap_s", "skip_unreadable"), "simulated events need none")
            if data.sampling_freq not in (None, 1000) or data.duration_s not in (None, 16):
                found.append("dataset.sampling_freq: simulated events have 1000 Hz and 16 s; leave it and duration_s alone")
        else:
            found += _without_meaning(self, "dataset", ("n_simulated", "simulation_seed"), "for source simulated only")
        if len(set(self.trainer_params.gpus)) < len(self.trainer_params.gpus):
            found.append("trainer_params.gpus: names a GPU twice")
        if data.is_ssl != (self.kind == "ssl"):
            found.append(f"dataset.is_ssl: found {data.is_ssl}; sslearn.py learns without labels, the others with")
        return found


class SSLConfig(RunConfig):
    kind = "ssl"
    model_params: ModelParams = ModelParams()
    exp_params: SSLParams = SSLParams()
    trainer_params: SSLTrainerParams = SSLTrainerParams()
    dataset: SSLDataset = SSLDataset()
    augmentations: tuple[Literal["NeighboringCrop", "RandomCrop", "RandomAmplitudeJitter", "ToTensor"], ...] = (
        "NeighboringCrop", "RandomAmplitudeJitter", "ToTensor")  # fmt: skip

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        found = super().contradictions()
        found += _wrong_size("model_params", self.model_params, self.model_params.out_size_enc)
        found += _wrong_size("exp_params", self.model_params, self.exp_params.out_size_enc)
        crops = [name for name in self.augmentations if name.endswith("Crop")]
        wanted = "RandomCrop" if self.model_params.name == "VIbCReg" else "NeighboringCrop"
        if crops != [wanted]:
            found.append(
                f"augmentations: found {', '.join(crops) or 'no crop'}; model {self.model_params.name} needs {wanted}, once"
            )
        size = self.model_params.proj_out
        if size > WHITENING_GROUP_SIZE and size % WHITENING_GROUP_SIZE:
            found.append(
                f"model_params.proj_out: found {size}; above {WHITENING_GROUP_SIZE} it must be a multiple of it (IterNorm)"
            )
        if self.model_params.name == "VIbCReg":
            found += _without_meaning(self, "exp_params", ("rho", "use_diag_loss"), "VIbCReg has no temporal term")
        return found


class FinetuneConfig(RunConfig):
    kind = "finetune"
    load_encoder: LoadEncoder = LoadEncoder()
    exp_params: FinetuneParams = FinetuneParams()
    dataset: ClassifierDataset = ClassifierDataset()
    augmentations: tuple[Literal["RandomAmplitudeJitter", "ToTensor"], ...] = ("ToTensor",)

    @property
    def learning_rates(self) -> dict[str, float]:
        """Return the rates of encoder and classifier; from scratch both learn at the classifier's. [L22]"""
        rate = self.exp_params.LR
        if not isinstance(rate, LearningRates):
            return {"encoder": rate, "clf": rate}
        return {"encoder": rate.clf if self.load_encoder.from_scratch else rate.encoder, "clf": rate.clf}

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        found = super().contradictions()
        found += self.exp_params.contradictions()
        found += _wrong_size("exp_params", self.load_encoder, self.exp_params.out_size_enc)
        if self.load_encoder.from_scratch:
            for key in ("freeze_encoders", "freeze_bn_stat_train"):
                if getattr(self.exp_params, key):
                    found.append(
                        f"exp_params.{key}: found true with load_encoder.ckpt_fname none; a random encoder would stay random"
                    )
        return found


class OriginalConfig(RunConfig):
    kind = "original"
    backbone_with_clf_type: Literal[*BACKBONES_WITH_CLF] = "ResNet34"
    exp_params: OriginalParams = OriginalParams()
    trainer_params: OriginalTrainerParams = OriginalTrainerParams()
    dataset: LabelledDataset = LabelledDataset()

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        return super().contradictions() + self.exp_params.contradictions()


def _without_meaning(config: RunConfig, section: str, keys: tuple[str, ...], why: str) -> list[str]:
    """Refuse keys that were given but would be ignored."""
    params = getattr(config, section)
    given = {key: getattr(params, key) for key in keys if key in params.model_fields_set}
    defaults = type(params).model_fields
    return [
        f"{section}.{key}: found {value}; it has no meaning here: {why}"
        for key, value in given.items()
        if value != defaults[key].default
    ]


def _wrong_size(section: str, params: ModelParams | LoadEncoder, size: int | None) -> list[str]:
    right = ENCODER_SIZES[params.backbone_type]
    if size in (None, right):
        return []
    return [f"{section}.out_size_enc: found {size}; {params.backbone_type} has {right}"]
