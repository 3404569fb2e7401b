"""Classify new recordings with a trained model.

python predict.py --ckpt LAST.ckpt RECORDINGS ... --out predictions.csv [key.path=value ...]
python predict.py --ckpt ... --continuous day.mseed --out events.csv
python predict.py --ckpt ... --sds ROOT --streams "NO.AKN0?..GH?" --follow --out events.csv
python predict.py --ckpt ... --describe
python predict.py --ckpt ... --export model.onnx
"""

import sys

from prediction import Classifier
from prediction.arguments import parse, require_one_process
from prediction.predict_config import PredictConfig
from utils.cli import main
from utils.config import load_config


def predict() -> None:
    """Read the command line, open the model, then describe, export or classify."""
    arguments = parse(__doc__)
    config = load_config(arguments.config_predict, PredictConfig, arguments.overrides)
    require_one_process()
    classifier = Classifier.load(arguments.ckpt, config)
    if arguments.describe:
        print(classifier)
        return
    if arguments.export is not None:
        from prediction.export import export_onnx

        export_onnx(classifier.predictor.model, arguments.export, config.ensemble)
        return

    from prediction.run import run

    sys.exit(run(classifier, arguments))


if __name__ == "__main__":
    main(predict)
