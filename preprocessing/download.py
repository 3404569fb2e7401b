"""Find, download and unpack the public Åknes data set, doi 10.6084/m9.figshare.21340101.v1."""

import logging
import os
import shutil
import zipfile
from pathlib import Path

from utils.errors import UserError
from utils.progress import progress_bar

log = logging.getLogger(__name__)
DOI = "10.6084/m9.figshare.21340101.v1"
CLASS_FOLDERS = "DataSamples"  # the folder in the zip: DataSamples/<Class>/*.dat
TIMEOUT_S = 15.0
CHUNK_BYTES = 2**16  # at most this much is lost when a connection breaks


class SourceError(UserError):
    """The Åknes data set cannot be found, downloaded or unpacked."""


def fetch_aknes(root: str | Path) -> Path:
    """Return the folder with one folder per class; download and unpack the zip if necessary.

    Looks for ``root/DataSamples``, class folders in ``root`` itself, then a zip in ``root``. Raises
    ``SourceError`` when there is none and the download fails, or the zip cannot be unpacked.
    """
    root, folder = Path(root), Path(root) / CLASS_FOLDERS
    if not folder.is_dir():
        if any(root.glob("*/*.dat")):
            return root
        unpack_zip(next(root.glob("*.zip"), None) or _download(root), folder)
    return folder


def _download(root: Path) -> Path:
    """Download the zip; pooch deletes it unless it has the checksum registered at the DOI."""
    import pooch
    from pooch.downloaders import FigshareRepository

    log.info("No archive in %s: downloading doi %s (about 5 GB)", root.resolve(), DOI)
    try:
        root.mkdir(parents=True, exist_ok=True)
        record = FigshareRepository(DOI, f"https://doi.org/{DOI}", timeout=TIMEOUT_S)
        shelf = pooch.create(path=root, base_url=f"doi:{DOI}/")
        record.populate_registry(shelf)
        name = next((name for name in shelf.registry if name.endswith(".zip")), "*.zip")
        url, part = record.download_url(name), root / f"{name}.part"
        return Path(shelf.fetch(name, downloader=lambda _, path, __: _receive(url, part, path)))
    except (OSError, ValueError, LookupError) as error:  # errors of requests are OSErrors
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise SourceError(
            f"No Åknes events. Looked for {CLASS_FOLDERS}/, <Class>/*.dat and *.zip in "
            f"{root.resolve()}; the download of doi {DOI} failed: {reason}\n"
            "Start again (an interrupted download is continued), or put the zip of "
            f"https://doi.org/{DOI} there yourself;\n"
            "or use your own recordings: dataset.source=folder "
            "dataset.root=FOLDER_OF_CLASS_FOLDERS."
        ) from error


def _receive(url: str, part: Path, path: str) -> None:
    """Download ``url`` to the file ``part``, continuing it if it exists; rename it to ``path``."""
    import requests

    done = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={done}-"}
    with requests.get(url, stream=True, timeout=TIMEOUT_S, headers=headers) as response:
        if not done or response.status_code != requests.codes.requested_range_not_satisfiable:
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                done = 0  # the server sends the whole file
            total = done + int(response.headers.get("Content-Length", 0)) or None  # None: unknown
            bar = progress_bar(
                desc="Downloading", initial=done, total=total, unit="B", unit_scale=True
            )
            with bar, open(part, "ab" if done else "wb") as file:
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
    os.replace(part, path)


def unpack_zip(path: Path, target: Path) -> None:
    """Unpack the folder ``target.name`` of a zip to ``target``, completely or not at all.

    Raises ``SourceError`` for a damaged zip, a zip without this folder, and a full disk.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = [name for name in archive.namelist() if f"{target.name}/" in name]
            if not wanted:
                raise zipfile.BadZipFile(f"contains no folder {target.name}")
            for name in progress_bar(wanted, desc="Unpacking", unit="file"):
                archive.extract(name, partial)
        os.replace(min(partial.rglob(target.name), key=lambda folder: len(folder.parts)), target)
    except Exception as error:  # zipfile raises many kinds of errors for damaged bytes
        reason = f"{path}: cannot be unpacked into {target}: {error}"
        raise SourceError(f"{reason}; if the zip is damaged, delete it and start again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
