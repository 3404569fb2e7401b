"""Verify the checksums of a packed archive: python -m preprocessing.verify DIR"""

import argparse
import sys

from preprocessing.event_archive import EventArchive
from utils.cli import main


def verify() -> None:
    """Parse the command line, verify every event of the archive and print the result."""
    parser = argparse.ArgumentParser(prog="python -m preprocessing.verify", description=__doc__)
    parser.add_argument(
        "archive_dir", metavar="DIR", help="folder of waveforms.hdf5 and metadata.csv"
    )
    archive = EventArchive(parser.parse_args().archive_dir)
    archive.verify()
    sys.stdout.write(f"{archive.archive_dir}: all {len(archive)} events are as they were packed\n")


if __name__ == "__main__":
    main(verify)
