"""Train the previous study's classifier on stacked traces.

python original_implementation/train.py --configs original_implementation/config.yaml
    [key.path=value ...]
"""

import sys
from pathlib import Path

# Python looks for modules in the folder of the script, which is one below the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.runs import Run, config_of
from utils.cli import main, parse_arguments
from utils.config import load_config
from utils.schema import OriginalConfig


def train() -> None:
    """Read the configuration, build data and model, train, evaluate, write the report."""
    arguments = parse_arguments(__doc__, "--configs", "original_implementation/config.yaml")
    config = load_config(
        arguments.config, OriginalConfig, arguments.overrides, config_of(arguments.resume)
    )
    run = Run(config, arguments.resume)

    from original_implementation.stacked_trace_classifier import StackedTraceClassifier
    from preprocessing.splits import classifier_split
    from training import data as events
    from training import reports
    from training.trainer import fit

    params = config.exp_params
    archive = events.open_events(config)
    split = classifier_split(**events.label_arguments(config, archive))
    data = events.serve_events(config, archive, split, sensors_train="all")
    module = StackedTraceClassifier(
        class_names=data.class_names,
        backbone_type=config.backbone_with_clf_type,
        class_weights=events.class_weights(config, data),
        learning_rate=params.LR,
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        freeze_encoder=False,
        freeze_bn_stat_train=False,
        augmentations=(),
        **events.event_arguments(config, data),
    )
    trainer = fit(run, module, data)
    reports.report_classifier(run, trainer, module, data)


if __name__ == "__main__":
    main(train)
