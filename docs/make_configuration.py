"""Write docs/configuration.md, the table of all configuration keys; run by ``make docs``."""

import sys
from pathlib import Path

# Python looks for modules in the folder of the script, which is one below the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prediction.config import PredictConfig
from training.grid_config import ReproduceConfig
from utils.reference import reference_table
from utils.schema import FinetuneConfig, OriginalConfig, SSLConfig

TARGET = Path(__file__).resolve().with_name("configuration.md")
TRAININGS = {"ssl": SSLConfig, "ft": FinetuneConfig, "orig": OriginalConfig}
TEXT = """# Configuration keys

*Made by `make docs` from the schema; change descriptions there: `utils/schema.py` and the sections
it imports, `training/grid.py`, `prediction/config.py`.*

A configuration is a YAML file. A key that is left out has its default. Every key can be overridden
behind the flags of a command, by its name in the tables: `dataset.batch_size=32`.

A file may build on another: `base: ssl.yaml`, a path relative to the file itself, takes everything
from there, and the file holds only what differs. Sections are merged key by key; any other value,
lists included, replaces the base's.

Numbers may be written `1e-3`. Whole numbers are below 2³². `null` is no value.

## Trainings

`ssl`: `sslearn.py` with `configs/ssl.yaml`. `ft`: `finetune.py` with `configs/finetune.yaml`.
`orig`: `original_implementation/train.py` with `original_implementation/config.yaml`. The last
column says which of them have the key.

{trainings}
## Grid of trainings

`reproduce.py` with `configs/reproduce.yaml`.

{grid}
## Prediction

`predict.py` with `configs/predict.yaml`.

{prediction}"""


def configuration_reference() -> str:
    """Return the content of docs/configuration.md."""
    return TEXT.format(
        trainings=reference_table(TRAININGS),
        grid=reference_table({"reproduce": ReproduceConfig}),
        prediction=reference_table({"predict": PredictConfig}),
    )


if __name__ == "__main__":
    TARGET.write_text(configuration_reference(), encoding="utf-8")
