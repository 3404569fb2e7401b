"""The previous study: one stacked trace per event."""
