"""Classify new recordings with a trained model.

python predict.py --ckpt LAST.ckpt RECORDINGS ... --out predictions.csv [key.path=value ...]
python predict.py --ckpt ... --continuous day.mseed --out events.csv
python predict.py --ckpt ... --export model.onnx
"""

import sys

from prediction.arguments import parse, require_one_process
from prediction.config import PredictConfig
from utils.cli import main, stop_at_signals
from utils.config import load_config


def predict() -> None:
    """Read the command line, open the model, classify or export."""
    arguments = parse(__doc__)
    config = load_config(arguments.config_predict, PredictConfig, arguments.overrides)
    require_one_process()

    from prediction.load import load_classifier

    model, fingerprint = load_classifier(arguments.ckpt)
    if arguments.export is not None:
        from prediction.export import export_onnx

        export_onnx(model, arguments.export, config.ensemble)
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
