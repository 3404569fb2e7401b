import hashlib
import http.server
import io
import random
import shutil
import stat
import threading
import time
import zipfile
import zlib

import pytest

from preprocessing import download
from preprocessing.download import SourceError, fetch_aknes, unpack_zip


def zip_bytes(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zip_bytes({"DataSamples/Spike/2020_001_a.dat": b"s" * 300_000, "DataSamples/Noise/2020_002_b.dat": b"n"})


@pytest.fixture
def server(monkeypatch):
    """Serve ARCHIVE as the DOI's registry would; ``server.fail_after`` cuts the connection after so many bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-").split("=")[1].rstrip("-"))
            served.append(start)
            if start >= len(ARCHIVE):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if httpd.says_length:
                self.send_header("Content-Length", str(len(ARCHIVE) - start))
            self.end_headers()
            self.wfile.write(ARCHIVE[start : httpd.fail_after or None])

        def log_message(self, *args):
            pass

    served = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.says_length, httpd.name = True, "DataSamples.zip"
    httpd.fail_after, httpd.served, httpd.md5 = None, served, hashlib.md5(ARCHIVE).hexdigest()
    threading.Thread(target=httpd.serve_forever, daemon=True).start()

    class Repository:
        def __init__(self, doi, archive_url, **kwargs):
            assert doi == "10.6084/m9.figshare.21340101.v1"

        def populate_registry(self, shelf):
            shelf.registry[httpd.name] = f"md5:{httpd.md5}"

        def download_url(self, name):
            return f"http://127.0.0.1:{httpd.server_port}/{name}"

    monkeypatch.setattr("pooch.downloaders.FigshareRepository", Repository)
    yield httpd
    httpd.shutdown()


def test_download_unpacks_once(server, tmp_path):
    folder = fetch_aknes(tmp_path)
    assert folder == tmp_path / "DataSamples"
    assert (folder / "Noise" / "2020_002_b.dat").read_bytes() == b"n"
    assert fetch_aknes(tmp_path) == folder and server.served == [0]


def test_an_interrupted_download_is_continued(server, tmp_path):
    server.fail_after = 100_000
    with pytest.raises(SourceError, match="continued"):
        fetch_aknes(tmp_path)
    received = (tmp_path / "DataSamples.zip.part").stat().st_size
    assert 2**16 <= received <= 100_000
    server.fail_after = None
    assert (fetch_aknes(tmp_path) / "Spike" / "2020_001_a.dat").stat().st_size == 300_000
    assert server.served == [0, received] and not (tmp_path / "DataSamples.zip.part").exists()


def test_a_wrong_checksum_deletes_the_download_and_says_so(server, tmp_path):
    server.md5 = "0" * 32
    for _ in range(2):  # the second attempt begins anew
        with pytest.raises(SourceError, match="checksum is wrong, so the download was deleted .*expected md5:0000"):
            fetch_aknes(tmp_path)
        assert list(tmp_path.iterdir()) == []
    assert server.served == [0, 0]


def test_a_wrong_beginning_is_deleted_after_continuing(server, tmp_path):
    (tmp_path / "DataSamples.zip.part").write_bytes(b"x" * 1000)
    with pytest.raises(SourceError, match="checksum is wrong"):
        fetch_aknes(tmp_path)
    assert list(tmp_path.iterdir()) == [] and server.served == [1000]
    assert (fetch_aknes(tmp_path) / "Noise").is_dir()


@pytest.mark.parametrize("says_length", [True, False])
def test_an_endless_download_stops_at_the_limit_and_is_deleted(server, tmp_path, monkeypatch, says_length):
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 100_000)
    server.says_length = says_length
    with pytest.raises(SourceError, match="stopped and deleted at the limit"):
        fetch_aknes(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_registry_cannot_choose_another_folder(server, tmp_path):
    server.name = "../evil.zip"
    with pytest.raises(SourceError, match="StopIteration|download"):
        fetch_aknes(tmp_path / "aknes")
    assert server.served == [] and [path.name for path in tmp_path.iterdir()] == ["aknes"]


def test_no_network_says_where_it_looked_and_the_ways_on(tmp_path, monkeypatch):
    import requests

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "get", unreachable)
    started = time.monotonic()
    with pytest.raises(SourceError) as error:
        fetch_aknes(tmp_path / "aknes")
    for part in (str(tmp_path / "aknes"), "ConnectionError", "put the zip", "dataset.source=folder"):
        assert part in str(error.value)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("place", ["DataSamples/Spike", "Spike"])
def test_a_copy_that_the_user_put_there_is_taken(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "x.dat").write_bytes(b"x")
    assert (fetch_aknes(tmp_path) / "Spike" / "x.dat").is_file()


def test_a_zip_that_the_user_put_there_is_unpacked(tmp_path):
    (tmp_path / "any name.zip").write_bytes(zip_bytes({"some/DataSamples/Spike/x.dat": b"x", "some/readme.txt": b"y"}))
    assert (fetch_aknes(tmp_path) / "Spike" / "x.dat").read_bytes() == b"x"
    assert not (tmp_path / "DataSamples" / "readme.txt").exists()


@pytest.mark.parametrize(
    "name",
    [
        "DataSamples/../../evil",
        "/DataSamples/evil",
        "DataSamples\\..\\..\\evil",
        "C:/DataSamples/evil",
        "C:\\DataSamples\\evil",
        "DataSamples/C:/evil",
        "//host/DataSamples/evil",
        "\\\\host\\DataSamples\\evil",
        "DataSamples/Spike/..",
        "..",
        ".",
    ],
)
def test_members_that_escape_are_refused(tmp_path, name):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bytes({"DataSamples/Spike/good.dat": b"", name: b"x"}))
    with pytest.raises(SourceError, match="refused"):
        unpack_zip(path, tmp_path / "in" / "DataSamples")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("DataSamples/Spike/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(SourceError, match="link"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")


def test_a_bomb_stops_at_the_stated_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_UNPACKED_BYTES", 1000)
    (tmp_path / "a.zip").write_bytes(zip_bytes({"DataSamples/Spike/x": b"0" * 600, "DataSamples/Spike/y": b"0" * 600}))
    with pytest.raises(SourceError, match="would unpack to"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_flood_of_files_stops_at_the_stated_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_MEMBERS", 5)
    (tmp_path / "a.zip").write_bytes(zip_bytes({f"DataSamples/Spike/{number}": b"" for number in range(6)}))
    with pytest.raises(SourceError, match="in 6 files"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("right_crc", [True, False])
def test_a_bomb_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path, monkeypatch, compression, right_crc):
    """The directory says 10 bytes where there are a million; with the checksum of these 10, or of all."""
    monkeypatch.setattr(download, "MAX_UNPACKED_BYTES", 1000)
    content = bytearray(zip_bytes({"DataSamples/Spike/x": b"0" * 10**6}, compression))
    for signature, crc, size in ((b"PK\3\4", 14, 22), (b"PK\1\2", 16, 24)):
        place = content.find(signature)
        content[place + size : place + size + 4] = (10).to_bytes(4, "little")
        if right_crc:
            content[place + crc : place + crc + 4] = zlib.crc32(b"0" * 10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content)
    try:
        unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")
    except SourceError as error:
        assert "damaged" in str(error)
    written = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file() and p.name != "a.zip")
    assert written <= 10


def test_bytes_are_counted_while_unpacking(tmp_path, monkeypatch):
    """Whatever the library lets through: a member that yields more than was announced stops at the limit."""
    monkeypatch.setattr(download, "MAX_UNPACKED_BYTES", 10**6)
    (tmp_path / "a.zip").write_bytes(zip_bytes({f"DataSamples/Spike/{name}": b"0" for name in "xy"}))
    written = []

    class Endless(io.RawIOBase):
        def read(self, n):
            written.append(n)
            return b"0" * n

    monkeypatch.setattr(zipfile.ZipFile, "open", lambda archive, member: Endless())
    with pytest.raises(SourceError, match="would unpack to"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")
    assert sum(written) <= 10**6 + download.CHUNK_BYTES and [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_burst_in_one_step_are_refused(tmp_path, compression):
    (tmp_path / "a.zip").write_bytes(zip_bytes({"DataSamples/Spike/x": b"0" * 100}, compression))
    with pytest.raises(SourceError, match="compressed in another way"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")


@pytest.mark.parametrize("name", ["~", "/", "DataSamples/" + "x" * 300, "DataSamples/~", "DataSamples/a/b"])
def test_odd_names_are_one_message(tmp_path, name):
    content = zip_bytes({"DataSamples/a": b"1", name: b"2"}).replace(b"~", b"\0")  # a name ends at a zero
    (tmp_path / "a.zip").write_bytes(content)
    try:
        unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")
    except SourceError as error:
        assert "a.zip" in str(error)
    assert {p.name for p in tmp_path.iterdir()} <= {"a.zip", "DataSamples"}


@pytest.mark.parametrize("content", [b"no zip", ARCHIVE[:-200], zip_bytes({"other/x": b""})])
def test_other_zips_are_refused_and_leave_nothing(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.zip"):
        fetch_aknes(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("stored", [True, False])
def test_a_damaged_member_leaves_nothing(tmp_path, stored):
    content = bytearray(
        ARCHIVE if stored else zip_bytes({"DataSamples/Spike/x.dat": bytes(range(256)) * 99}, zipfile.ZIP_DEFLATED)
    )
    place = 1000 if stored else 70
    content[place : place + 20] = bytes(20)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match="damaged"):
        fetch_aknes(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_zip_damaged_anywhere_is_unpacked_or_refused(tmp_path):
    members = {"DataSamples/Spike/a.dat": b"s" * 3000, "DataSamples/Noise/b.dat": b"n"}
    outcomes = []
    for number in range(400):
        rng = random.Random(number)
        content = bytearray(zip_bytes(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))
        for _ in range(rng.choice((1, 1, 5))):
            place = rng.choice((rng.randrange(80), -1 - rng.randrange(220)))
            content[place] = rng.choice((0, 255, content[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
        (tmp_path / "a.zip").write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.1 else content)
        try:
            unpack_zip(tmp_path / "a.zip", tmp_path / "DataSamples")
            outcomes.append("unpacked")
        except SourceError as error:
            assert "a.zip" in str(error)
            outcomes.append("refused")
        assert {path.name for path in tmp_path.iterdir()} <= {"a.zip", "DataSamples"}
        shutil.rmtree(tmp_path / "DataSamples", ignore_errors=True)
    assert min(outcomes.count("unpacked"), outcomes.count("refused")) > 40
