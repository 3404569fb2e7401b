"""Recordings or continuous data to a table of classified events."""
