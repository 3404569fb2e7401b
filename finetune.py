"""Train a classifier, from scratch or from a pretrained encoder.

python finetune.py --config_ft configs/finetune.yaml [key.path=value ...]
"""

from training.runs import Run
from utils.cli import main, parse_arguments
from utils.config import load_config
from utils.schema import FinetuneConfig


def finetune() -> None:
    """Read the configuration, build data and model, train, evaluate, write the report."""
    arguments = parse_arguments(__doc__, "--config_ft", "configs/finetune.yaml")
    config = load_config(arguments.config, FinetuneConfig, arguments.overrides)
    run = Run(config, arguments.resume)

    from models.encoders import build_encoder, load_encoder_weights
    from models.event_classifier import EventClassifier
    from models.linear_probe import LinearProbe
    from models.self_training import SelfTrainedClassifier, load_teacher
    from preprocessing.splits import classifier_split
    from training import data as events
    from training import reports
    from training.trainer import fit

    params, source = config.exp_params, config.load_encoder
    pretrained, facts = None, {}
    if not source.from_scratch:  # before packing events, which takes long
        pretrained = build_encoder(source.backbone_type, stem_stride=source.stem_stride)
        seen = load_encoder_weights(pretrained, source.ckpt_fname)
    archive = events.open_events(config)
    split = classifier_split(**events.label_arguments(config, archive))
    fitted = params.head == "logistic_regression"
    one_sensor = config.dataset.return_single_spectrogram_train and not fitted
    sensors_train = "one" if one_sensor else "all"
    sensors_test = "one" if config.dataset.return_single_spectrogram_test else "all"
    data = events.serve_events(config, archive, split, sensors_train, sensors_test)
    kinds = {True: SelfTrainedClassifier, False: EventClassifier}
    module = (LinearProbe if fitted else kinds[params.self_training])(
        class_names=data.class_names,
        backbone_type=source.backbone_type,
        stem_stride=source.stem_stride,
        class_weights=events.class_weights(config, data),
        learning_rate=config.learning_rates,
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        freeze_encoder=params.freeze_encoders or fitted,
        freeze_bn_stat_train=params.freeze_bn_stat_train,
        augmentations=config.augmentations,
        **events.event_arguments(config, archive),
    )
    if pretrained is not None:
        module.encoder.load_state_dict(pretrained.state_dict())
        facts = events.compare_with_pretraining(seen, data)
    if isinstance(module, SelfTrainedClassifier):
        module.learn_from(load_teacher(params.teacher_ckpt, module))
    trainer = fit(run, module, data)
    reports.report_classifier(run, trainer, module, data, **facts)


if __name__ == "__main__":
    main(finetune)
