"""Configuration of the control on hand-made features."""

from utils.schema import FinetuneConfig


class FeaturesConfig(FinetuneConfig):
    """A classifier's configuration; its runs are in runs/features."""

    kind = "features"
