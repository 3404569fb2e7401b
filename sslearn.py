"""Pretrain an encoder without labels.

python sslearn.py --config_ssl configs/ssl.yaml [key.path=value ...]
"""

from dataclasses import asdict

from training.runs import Run
from utils.cli import main, parse_arguments
from utils.config import load_config
from utils.schema import SSLConfig


def pretrain() -> None:
    """Read the configuration, build data and model, train, write the report."""
    arguments = parse_arguments(__doc__, "--config_ssl", "configs/ssl.yaml")
    config = load_config(arguments.config, SSLConfig, arguments.overrides)
    run = Run(config, arguments.resume)

    from pytorch_lightning import seed_everything

    from models.vnibcreg import VNIbCReg
    from preprocessing.splits import pretraining_split
    from training import data as events
    from training import reports
    from training.trainer import fit

    model, params = config.model_params, config.exp_params
    archive = events.open_events(config)
    division = events.division_of(config, archive)
    split = pretraining_split(archive.labels, division, config.dataset.exclude_test_events)
    data = events.serve_events(config, archive, split, sensors_train="pair")
    seed_everything(config.seed, workers=True, verbose=False)  # initial weights
    module = VNIbCReg(
        backbone_type=model.backbone_type,
        stem_stride=model.stem_stride,
        proj_hid=model.proj_hid,
        proj_out=model.proj_out,
        lambda_=params.lambda_,
        mu=params.mu,
        nu=params.nu,
        rho=params.rho,
        use_diag_loss=params.use_diag_loss,
        use_tnc=model.name != "VIbCReg",
        learning_rate=params.LR,
        weight_decay=params.weight_decay,
        augmentations=config.augmentations,
        spectrogram=asdict(events.spectrogram_settings(config, archive)),
        knn_period=params.knn_acc_record_ep_period,
    )
    trainer = fit(run, module, data)
    reports.report_pretraining(run, trainer, data)


if __name__ == "__main__":
    main(pretrain)
