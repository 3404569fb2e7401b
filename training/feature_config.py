"""Configuration of the random forest on hand-made features (training/feature_forest.py)."""

from utils.schema import FinetuneConfig


class FeaturesConfig(FinetuneConfig):
    """A classifier's configuration; its runs are in runs/features."""

    kind = "features"
