"""Training of the previous study's network. [LS23]

[LS23] Langet & Silverberg, Earth Surf. Dynam. 11, 89, 2023, as described in [L22]. Everything but
the network is that of ``models.event_classifier``.
"""

from models.event_classifier import EventClassifier
from original_implementation.stacking import StackedTraceNetwork


class StackedTraceClassifier(StackedTraceNetwork, EventClassifier):
    """``EventClassifier`` of stacked traces."""
