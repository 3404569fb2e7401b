"""Continuous recordings: reading them window by window, and finding events in them."""
