"""Compare a packed archive with its checksums: python -m preprocessing.verify DIR"""

import argparse
import sys

from preprocessing.event_archive import EventArchive
from utils.cli import main


def verify() -> None:
    """Read the command line and every event of the archive; say so when all is well."""
    parser = argparse.ArgumentParser(prog="python -m preprocessing.verify", description=__doc__)
    parser.add_argument(
        "archive_dir", metavar="DIR", help="folder of waveforms.hdf5 and metadata.csv"
    )
    archive = EventArchive(parser.parse_args().archive_dir)
    archive.verify()
    sys.stdout.write(f"{archive.archive_dir}: all {len(archive)} events are as they were packed\n")


if __name__ == "__main__":
    main(verify)
