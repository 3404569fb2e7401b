"""Recordings to event archives, splits, batches, spectrogram images and views."""
