import hashlib
import http.server
import io
import threading
import time
import zipfile

import pytest

from preprocessing.download import SourceError, fetch_aknes, unpack_zip


def zip_bytes(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zip_bytes(
    {"DataSamples/Spike/2020_001_a.dat": b"s" * 300_000, "DataSamples/Noise/2020_002_b.dat": b"n"}
)


@pytest.fixture
def server(monkeypatch):
    """Serve ARCHIVE like figshare; the connection breaks after ``server.fail_after`` bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-").split("=")[1].rstrip("-"))
            served.append(start)
            if start >= len(ARCHIVE):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(ARCHIVE) - start))
            self.end_headers()
            self.wfile.write(ARCHIVE[start : httpd.fail_after or None])

        def log_message(self, *args):
            pass

    served = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.fail_after, httpd.served, httpd.md5 = None, served, hashlib.md5(ARCHIVE).hexdigest()
    threading.Thread(target=httpd.serve_forever, daemon=True).start()

    class Repository:
        def __init__(self, doi, archive_url, **kwargs):
            assert doi == "10.6084/m9.figshare.21340101.v1"

        def populate_registry(self, shelf):
            shelf.registry["DataSamples.zip"] = f"md5:{httpd.md5}"

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
        with pytest.raises(SourceError, match="expected md5:0000.*Deleted download"):
            fetch_aknes(tmp_path)
        assert list(tmp_path.iterdir()) == []
    assert server.served == [0, 0]


def test_a_wrong_beginning_is_deleted_after_continuing(server, tmp_path):
    (tmp_path / "DataSamples.zip.part").write_bytes(b"x" * 1000)
    with pytest.raises(SourceError, match="Deleted download"):
        fetch_aknes(tmp_path)
    assert list(tmp_path.iterdir()) == [] and server.served == [1000]
    assert (fetch_aknes(tmp_path) / "Noise").is_dir()


def test_no_network_says_where_it_looked_and_the_ways_on(tmp_path, monkeypatch):
    import requests

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "get", unreachable)
    started = time.monotonic()
    with pytest.raises(SourceError) as error:
        fetch_aknes(tmp_path / "aknes")
    for part in (
        str(tmp_path / "aknes"),
        "ConnectionError",
        "put the zip of",
        "dataset.source=folder",
    ):
        assert part in str(error.value)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("place", ["DataSamples/Spike", "Spike"])
def test_a_copy_that_the_user_put_there_is_taken(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "x.dat").write_bytes(b"x")
    assert (fetch_aknes(tmp_path) / "Spike" / "x.dat").is_file()


def test_a_zip_that_the_user_put_there_is_unpacked(tmp_path):
    members = {
        "__MACOSX/some/DataSamples/Spike/._x.dat": b"z",
        "some/DataSamples/Spike/x.dat": b"x",
        "some/readme.txt": b"y",
    }
    (tmp_path / "any name.zip").write_bytes(zip_bytes(members))
    assert (fetch_aknes(tmp_path) / "Spike" / "x.dat").read_bytes() == b"x"
    assert [path.name for path in (tmp_path / "DataSamples").rglob("*.dat")] == ["x.dat"]


@pytest.mark.parametrize("place", ["../../{}", "/{}", "C:/{}", "//host/{}"])
def test_nothing_is_written_outside_the_folder(tmp_path, place):
    """zipfile drops ``..`` from names."""
    members = {"DataSamples/Spike/good.dat": b"g", place.format("DataSamples/Spike/evil.dat"): b"x"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(zip_bytes(members))
    unpack_zip(tmp_path / "in" / "a.zip", tmp_path / "in" / "DataSamples")
    assert (tmp_path / "in" / "DataSamples" / "Spike" / "good.dat").read_bytes() == b"g"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"a.zip", "DataSamples"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip", "not a zip file"),
        (ARCHIVE[:-200], "not a zip file"),
        (zip_bytes({"other/x": b""}), "contains no folder DataSamples"),
    ],
)
def test_other_zips_are_refused_and_leave_nothing(tmp_path, content, reason):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match=f"a.zip: cannot be unpacked .*{reason}; if the zip is"):
        fetch_aknes(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("stored", [True, False])
def test_a_damaged_member_leaves_nothing(tmp_path, stored):
    content = bytearray(
        ARCHIVE
        if stored
        else zip_bytes({"DataSamples/Spike/x.dat": bytes(range(256)) * 99}, zipfile.ZIP_DEFLATED)
    )
    place = 1000 if stored else 70
    content[place : place + 20] = bytes(20)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match="Bad CRC|Error -3 while decompressing"):
        fetch_aknes(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
