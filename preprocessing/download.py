"""Get the public Åknes archive: from where the user has put it, or by download. doi 10.6084/m9.figshare.21340101.v1"""

import logging
import os
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm import tqdm

from utils.errors import UserError

log = logging.getLogger(__name__)
DOI = "10.6084/m9.figshare.21340101.v1"
CLASS_FOLDERS = "DataSamples"  # what the zip unpacks to: DataSamples/<Class>/*.dat
TIMEOUT_S = 15.0
MAX_DOWNLOAD_BYTES = 20 * 10**9  # the archive has about 5 GB; more than this is not the archive
MAX_UNPACKED_BYTES, MAX_MEMBERS = 40 * 10**9, 100_000
CHUNK_BYTES = 2**16  # also what a broken connection may lose


class SourceError(UserError):
    """Say why there are no events to work on, and the ways on."""


def fetch_aknes(root: str | Path) -> Path:
    """Return the folder of class folders under ``root``, unpacking or downloading the archive if it is not there yet.

    Looks for ``root/DataSamples``, class folders in ``root`` itself, then a zip in ``root``. Raises ``SourceError`` that says
    where it looked and what to do, when there is none and the download fails.
    """
    root = Path(root)
    if (root / CLASS_FOLDERS).is_dir():
        return root / CLASS_FOLDERS
    if any(root.glob("*/*.dat")):
        return root
    zips = sorted(root.glob("*.zip"))
    unpack_zip(zips[0] if zips else _download(root), root / CLASS_FOLDERS)
    return root / CLASS_FOLDERS


def _download(root: Path) -> Path:
    """Download the zip with the checksum from the DOI's registry; an interrupted download is continued."""
    import pooch
    import requests
    from pooch.downloaders import FigshareRepository

    log.info("No archive in %s: downloading doi %s (about 5 GB)", root.resolve(), DOI)
    try:
        root.mkdir(parents=True, exist_ok=True)
        repository = FigshareRepository(DOI, f"https://doi.org/{DOI}", timeout=TIMEOUT_S)
        shelf = pooch.create(path=root, base_url=f"doi:{DOI}/")
        repository.populate_registry(shelf)
        name = next(name for name in shelf.registry if name.endswith(".zip") and name == Path(name).name)
        return Path(shelf.fetch(name, downloader=ResumingDownload(repository.download_url(name), root / f"{name}.part")))
    except (requests.RequestException, OSError, ValueError, LookupError, StopIteration) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if "hash of downloaded file" in reason:  # pooch has deleted it
            reason = f"the checksum is wrong, so the download was deleted ({reason})"
        raise SourceError(
            f"No Åknes events. Looked in {root.resolve()} for {CLASS_FOLDERS}/, <Class>/*.dat and *.zip; the download of doi {DOI} "
            f"failed: {type(error).__name__}: {reason}\n"
            f"Ways on: put the zip of https://doi.org/{DOI} into {root.resolve()} and start again (an interrupted download is "
            "continued);\nor work on your own recordings with dataset.source=folder dataset.root=FOLDER_OF_CLASS_FOLDERS."
        ) from error


class TooLargeError(OSError):
    """Say that a server sends more than the archive can have."""


class ResumingDownload:
    """Download ``url`` through ``part``, which a later attempt continues; the form of a pooch downloader."""

    def __init__(self, url: str, part: Path):
        self.url, self.part = url, part

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Write the whole file to ``output_file``; ``url`` is pooch's name for it."""
        import requests

        done = self.part.stat().st_size if self.part.is_file() else 0
        with requests.get(self.url, stream=True, timeout=TIMEOUT_S, headers={"Range": f"bytes={done}-"}) as response:
            complete = response.status_code == requests.codes.requested_range_not_satisfiable and done > 0
            if not complete:
                response.raise_for_status()
                continued = response.status_code == requests.codes.partial_content
                try:
                    self._receive(response, done if continued else 0)
                except TooLargeError:
                    self.part.unlink()
                    raise
        os.replace(self.part, output_file)

    def _receive(self, response, done: int) -> None:
        total = done + int(response.headers.get("Content-Length", 0))
        bar = tqdm(desc="Downloading", initial=done, total=total or None, unit="B", unit_scale=True)
        with bar, open(self.part, "ab" if done else "wb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > MAX_DOWNLOAD_BYTES:  # counted: a server need not say how much it sends
                    raise TooLargeError(f"stopped and deleted at the limit of {MAX_DOWNLOAD_BYTES / 1e9:.0f} GB")
        if total and self.part.stat().st_size < total:
            raise OSError(f"connection lost after {self.part.stat().st_size} of {total} bytes")


def unpack_zip(path: Path, target: Path) -> None:
    """Unpack the folder ``target.name`` of a zip to ``target``: all of it or nothing.

    Raises ``SourceError`` for a damaged zip, a member that is a link or would land outside, and one of above 40 GB.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [_safe(path, member) for member in archive.infolist() if not member.filename.endswith("/")]
            _require_modest(path, sum(member.file_size for member in members), len(members))
            wanted = [member for member in members if target.name in PurePosixPath(member.filename).parts[:-1]]
            if not wanted:
                raise SourceError(f"{path}: holds no folder {target.name}; is this the archive of doi {DOI}?")
            size = 0
            for member in tqdm(wanted, desc="Unpacking", unit="file"):
                parts = PurePosixPath(member.filename).parts
                destination = partial.joinpath(*parts[parts.index(target.name) + 1 :])
                destination.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(destination, "wb") as file:
                    size = _copy(path, source, file, size)
        os.replace(partial, target)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be unpacked into {target}: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises whatever the bytes lead it to
        raise SourceError(f"{path}: damaged or not a zip ({error}); delete it and start again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require_modest(path: Path, size: int, n_members: int = 0) -> None:
    if size > MAX_UNPACKED_BYTES or n_members > MAX_MEMBERS:
        raise SourceError(f"{path}: would unpack to {size / 1e9:.1f} GB in {n_members} files; the limits are "
                          f"{MAX_UNPACKED_BYTES / 1e9:.1f} GB and {MAX_MEMBERS}")  # fmt: skip


def _copy(path: Path, source: BinaryIO, file: BinaryIO, size: int) -> int:
    """Copy one member and return ``size`` plus its bytes; a member may hold more than the zip's directory says."""
    while chunk := source.read(CHUNK_BYTES):
        size += len(chunk)
        _require_modest(path, size)
        file.write(chunk)
    return size


def _safe(path: Path, member: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Return a member that will land inside the target; other compressions than deflate can burst memory in one step."""
    parts = PurePosixPath(member.filename.replace("\\", "/"))
    escapes = not parts.parts or parts.is_absolute() or ".." in parts.parts or any(":" in part for part in parts.parts)
    if escapes or stat.S_ISLNK(member.external_attr >> 16):
        raise SourceError(f"{path}: refused, member {member.filename!r} would be written outside the target folder or is a link")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(f"{path}: refused, member {member.filename!r} is compressed in another way than the archive's")
    return member
