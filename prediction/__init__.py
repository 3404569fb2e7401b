"""Recordings or continuous data to a table of classified events."""

from prediction.classifier import Classifier
from prediction.events import Event, Events, Sensor

__all__ = ["Classifier", "Event", "Events", "Sensor"]
