"""Write SeisBench datasets with SeisBench's own writer, for tests."""

from pathlib import Path

import numpy as np
import pytest


def seisbench_data(cache: Path):
    """Import ``seisbench.data`` with its cache in a temporary folder; it needs no internet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEISBENCH_CACHE_ROOT", str(cache))
        import seisbench.data
    return seisbench.data


def write_dataset(
    library, folder: Path, rows: list[tuple[dict, np.ndarray]], chunk: str = "", **data_format
) -> Path:
    """Write one chunk: (metadata, waveforms) of each row, in buckets of two."""
    files = folder / f"metadata{chunk}.csv", folder / f"waveforms{chunk}.hdf5"
    with library.WaveformDataWriter(*files) as writer:
        writer.bucket_size = 2
        writer.data_format = {"dimension_order": "CW", "component_order": "ZNE"} | data_format
        for metadata, waveforms in rows:
            writer.add_trace(dict(metadata), waveforms)
    return folder
