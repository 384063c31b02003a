import http.server
import threading
import zipfile
from typing import ClassVar

import pytest

from vrp.data.archives import Archive, download, download_official, unpack
from vrp.errors import InputError


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files with ranges; the first request of `cut_once` stops half-way."""

    cut_once: ClassVar[set[str]] = set()
    ranges: ClassVar[list[str]] = []

    def do_GET(self):
        content = (self.server.root / self.path.lstrip("/")).read_bytes()
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted:
            self.ranges.append(wanted)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if self.path in self.cut_once:
            self.cut_once.discard(self.path)
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "published"
    root.mkdir()
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RangeHandler)
    served.root = root
    RangeHandler.ranges = []
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield root, f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path):
    root, url = server
    content = bytes(range(256)) * 1000
    (root / "file.json").write_bytes(content)
    RangeHandler.cut_once = {"/file.json"}
    goal = tmp_path / "data" / "file.json"
    with pytest.raises(InputError, match="run it again to go on"):
        download(f"{url}/file.json", goal)
    assert not goal.exists()
    download(f"{url}/file.json", goal)
    assert goal.read_bytes() == content
    assert RangeHandler.ranges == ["bytes=65536-"]  # whole blocks of 64 KiB survive the cut
    assert [path.name for path in goal.parent.iterdir()] == ["file.json"]


def test_archives_are_unpacked_once(server, tmp_path):
    root, url = server
    with zipfile.ZipFile(root / "val.zip", "w") as archive:
        archive.writestr("val2014/a.txt", "a")
    archives = [Archive(f"{url}/val.zip", ".")]
    download_official(tmp_path / "data", archives)
    assert (tmp_path / "data" / "val2014" / "a.txt").read_text() == "a"
    (root / "val.zip").unlink()
    download_official(tmp_path / "data", archives)


def test_an_unreachable_server_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="put the file at"):
        download("http://127.0.0.1:9/file.json", tmp_path / "file.json")


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path):
    packed = tmp_path / "bad.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(InputError, match="outside its folder"):
        unpack(packed, tmp_path / "data")
    assert not (tmp_path / "outside.txt").exists()


def test_a_damaged_archive_is_deleted(tmp_path):
    packed = tmp_path / "bad.zip"
    packed.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="damaged"):
        unpack(packed, tmp_path)
    assert not packed.exists()
