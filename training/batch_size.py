"""Refuse a batch of pretraining larger than the training set, before recordings are packed."""

from pathlib import Path

import numpy as np

from preprocessing.data_module import too_few_events
from preprocessing.metadata import ArchiveError
from preprocessing.sources import is_packed
from utils.schema import RunConfig, SSLConfig


def require_possible_batch(config: RunConfig) -> None:
    """Count the files of a folder of recordings; packing them may take many minutes.

    Raises ``UserError`` if pretraining has fewer training events than ``dataset.batch_size``. For
    packed archives and other sources the data module says so, when their events are known.
    Classifiers with fewer training events take all of them in one batch.
    """
    data = config.dataset
    if not isinstance(config, SSLConfig) or data.source != "folder" or data.root is None:
        return
    if is_packed(Path(data.root), data.source):
        return
    from preprocessing.recording_folder import list_recordings  # training alone needs no ObsPy

    try:
        n_events = len(list_recordings(data.root))
    except ArchiveError:  # raised again when the folder is opened
        return
    n_train = int(np.floor(data.train_data_ratio * n_events))
    if n_train < data.batch_size:
        raise too_few_events(data.batch_size, n_train)
