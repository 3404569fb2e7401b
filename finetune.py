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

    from pytorch_lightning import seed_everything

    from preprocessing.splits import classifier_split
    from training import data as events
    from training import reports
    from training.fine_tuning import PretrainedEncoder, build_classifier, sensors_used
    from training.trainer import fit

    pretrained = PretrainedEncoder(config)
    archive = events.open_events(config)
    split = classifier_split(archive.labels, events.division_of(config, archive))
    data = events.serve_events(config, archive, split, *sensors_used(config))
    seed_everything(config.seed, workers=True, verbose=False)  # initial weights
    module = build_classifier(config, data)
    facts = pretrained.load_into(module, data)
    trainer = fit(run, module, data)
    reports.report_classifier(run, trainer, module, data, **facts)


if __name__ == "__main__":
    main(finetune)
