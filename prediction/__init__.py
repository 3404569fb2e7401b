"""Recordings or continuous data to a table of classified events."""

from prediction.classifier import Classifier, Events
from prediction.events import Event, Sensor

__all__ = ["Classifier", "Event", "Events", "Sensor"]
