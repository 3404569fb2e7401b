"""A file that outlives the system's refusals."""

from pathlib import Path


class PatientFile:
    """Hold a file for HDF5 to write; once the system refuses (no space), remember why, and take no more.

    HDF5 itself loses such errors when it closes a dataset, and crashes the process when it closes the file.
    """

    def __init__(self, path: Path):
        self.file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self.refusal: OSError | None = None

    def write(self, content) -> int:
        rest = memoryview(content)
        try:
            while len(rest) and self.refusal is None:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.refusal = error
        return len(content)

    def truncate(self, size: int) -> int:
        if self.refusal is None:
            try:
                return self.file.truncate(size)
            except OSError as error:
                self.refusal = error
        return size

    def __getattr__(self, name: str):
        return getattr(self.file, name)  # seek, tell, readinto, flush, close
