"""The ground that everything stands on: configuration, files, processes, errors."""
