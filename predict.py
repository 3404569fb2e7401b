"""Classify new recordings with a trained model.

python predict.py --ckpt LAST.ckpt RECORDINGS ... --out predictions.csv [key.path=value ...]
python predict.py --ckpt ... --continuous day.mseed --out events.csv
python predict.py --ckpt ... --export model.onnx
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from prediction.config import PredictConfig
from utils.cli import main, stop_at_signals
from utils.config import load_config
from utils.errors import UserError


def parse() -> Namespace:
    """Read the command line; an argument with = that is no file overrides a configuration key."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "recordings",
        nargs="*",
        metavar="RECORDINGS",
        help="files and folders, in any format ObsPy reads; key.path=value",
    )
    parser.add_argument(
        "--ckpt",
        required=True,
        metavar="FILE",
        help="checkpoints/last.ckpt of a trained classifier",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="table of events, one row each")
    parser.add_argument(
        "--format",
        choices=("csv", "json"),
        default="csv",
        help="of the tables; json has one object a line",
    )
    parser.add_argument(
        "--continuous", action="store_true", help="find the events in continuous recordings first"
    )
    parser.add_argument(
        "--config_predict",
        default="configs/predict.yaml",
        metavar="FILE",
        help="YAML file (default: %(default)s)",
    )
    parser.add_argument(
        "--per-sensor",
        action="store_true",
        help="also a table of what each channel says, OUT_sensors",
    )
    parser.add_argument("--quakeml", type=Path, metavar="FILE", help="also the events as QuakeML")
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="DIR",
        help="also a picture of each event, and of continuous data a timeline",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first file that cannot be used"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted table")
    parser.add_argument(
        "--export", type=Path, metavar="FILE.onnx", help="write the model as one ONNX graph instead"
    )
    # recordings may come before, between and after flags
    arguments = parser.parse_intermixed_args()
    arguments.overrides = [
        text for text in arguments.recordings if "=" in text and not Path(text).exists()
    ]
    arguments.recordings = [
        text for text in arguments.recordings if text not in arguments.overrides
    ]
    if arguments.export is None and (not arguments.recordings or arguments.out is None):
        parser.error("recordings and --out FILE are needed (or --export FILE.onnx)")
    return arguments


def predict() -> None:
    """Read the command line, open the model, classify or export."""
    arguments = parse()
    config = load_config(arguments.config_predict, PredictConfig, arguments.overrides)

    from prediction.load import load_classifier
    from prediction.run import require_one_process

    require_one_process()
    model, fingerprint = load_classifier(arguments.ckpt)
    if arguments.export is not None:
        from prediction.export import export_onnx

        if config.ensemble != "all":
            raise UserError(
                "--export writes the ensemble of all sensors, but ensemble is "
                f"{config.ensemble}; set it to all"
            )
        export_onnx(model, arguments.export)
        return

    from prediction.outputs import Outputs
    from prediction.predictor import Predictor, choose_device
    from prediction.run import predict_continuous, predict_files

    predictor = Predictor(model, fingerprint, config, choose_device(config))
    outputs = Outputs(
        arguments.out,
        arguments.format,
        arguments.per_sensor,
        arguments.quakeml,
        arguments.plots,
        arguments.resume,
    )
    stop_at_signals("go on by the same command with --resume")
    classify = predict_continuous if arguments.continuous else predict_files
    n_unusable = classify(predictor, arguments.recordings, outputs, arguments.strict)
    sys.exit(1 if n_unusable else 0)


if __name__ == "__main__":
    main(predict)
