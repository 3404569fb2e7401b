"""Shared base: configuration, files, processes, errors."""
