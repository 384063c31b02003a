"""One file over HTTP: cut, resumed, damaged, refused."""

import contextlib
import hashlib
import http.server
import threading
from pathlib import Path

import pytest
from hub_stand_in import HubStandIn, git_digest

from vrp import download as module
from vrp.download import ATTEMPTS, Checksum, download, file_checksum
from vrp.errors import InputError

CONTENT = bytes(range(256)) * 1024
BLOCK = 1 << 16
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def server(monkeypatch):
    """A server of one file of 256 KiB; nothing waits between attempts."""
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    stand_in = HubStandIn()
    stand_in.add("models", "a/b", {"file.json": CONTENT})
    yield stand_in
    stand_in.stop()


def url(server: HubStandIn) -> str:
    return f"{server.url}/a/b/resolve/main/file.json"


def test_checksums_are_those_of_sha256sum_and_of_git(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    # `printf 'hello\n' | sha256sum` and `printf 'hello\n' | git hash-object --stdin`
    assert file_checksum(path, "git").value == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert file_checksum(path, "sha256").value == (
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    )
    assert git_digest(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_cut_connection_is_resumed_where_it_stopped(server, tmp_path: Path, caplog):
    server.cut("file.json", after=100_000)
    goal = tmp_path / "data" / "file.json"
    download(url(server), goal, size=len(CONTENT), checksum=SHA256)
    assert goal.read_bytes() == CONTENT
    assert [path.name for path in goal.parent.iterdir()] == ["file.json"]
    # Whole blocks of 64 KiB survive the cut.
    assert [request.range for request in server.requests] == [None, f"bytes={BLOCK}-"]
    assert f"resuming at byte {BLOCK}" in caplog.text


def test_what_was_given_up_is_resumed_by_the_next_run(server, tmp_path: Path):
    goal = tmp_path / "file.json"
    part = goal.with_name("file.json.part")
    part.write_bytes(CONTENT[:BLOCK])
    server.stop()
    with pytest.raises(InputError, match="run it again to go on where it stopped, or ask a friend"):
        download(url(server), goal, advice="ask a friend")
    assert part.read_bytes() == CONTENT[:BLOCK]
    assert not goal.exists()
    server.start()
    download(url(server), goal, checksum=SHA256)
    assert goal.read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [f"bytes={BLOCK}-"]


def test_attempts_without_progress_are_bounded(server, tmp_path: Path):
    server.cut("file.json", after=10, times=1000)
    with pytest.raises(InputError, match="run it again to go on"):
        download(url(server), tmp_path / "file.json", size=len(CONTENT))
    assert len(server.requests) == ATTEMPTS


def test_damage_is_mended_by_one_more_download(server, tmp_path: Path, caplog):
    server.corrupt("file.json")
    download(url(server), tmp_path / "file.json", checksum=SHA256)
    assert (tmp_path / "file.json").read_bytes() == CONTENT
    assert len(server.requests) == 2
    assert "arrived damaged; downloading it again" in caplog.text


def test_what_arrives_damaged_twice_is_not_kept(server, tmp_path: Path):
    server.corrupt("file.json", times=2)
    with pytest.raises(InputError, match=r"arrived damaged twice \(sha256 .*announced as"):
        download(url(server), tmp_path / "file.json", checksum=SHA256)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_that_do_not_fit_are_replaced(server, tmp_path: Path):
    (tmp_path / "file.json.part").write_bytes(b"x" * (len(CONTENT) + 5))
    download(url(server), tmp_path / "file.json", size=len(CONTENT), checksum=SHA256)
    assert (tmp_path / "file.json").read_bytes() == CONTENT


def test_a_whole_leftover_is_only_checked(server, tmp_path: Path):
    (tmp_path / "file.json.part").write_bytes(CONTENT)
    download(url(server), tmp_path / "file.json", size=len(CONTENT), checksum=SHA256)
    assert server.requests == []


def test_a_file_of_another_size_is_refused(server, tmp_path: Path):
    with pytest.raises(InputError, match="has 262144 bytes, announced were 9"):
        download(url(server), tmp_path / "file.json", size=9)


class _Endless(http.server.BaseHTTPRequestHandler):
    """Sends a megabyte, whatever it announces."""

    announced = None
    protocol_version = "HTTP/1.0"  # the end of the connection ends the file

    def do_GET(self):
        self.send_response(200)
        if self.announced is not None:
            self.send_header("Content-Length", str(self.announced))
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(16):
                self.wfile.write(b"x" * BLOCK)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endless():
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/file"
    served.shutdown()
    served.server_close()


def test_no_more_is_taken_than_the_publisher_announced(endless, tmp_path: Path):
    with pytest.raises(InputError, match="sends more than the 100000 bytes announced and was cut"):
        download(endless, tmp_path / "file", size=100_000)
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_taken_than_any_data_set_has(endless, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_UNANNOUNCED", 200_000)
    with pytest.raises(InputError, match="sends more than 32 GiB, unannounced, and was cut off"):
        download(endless, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_no_announced_size_is_taken_whole(endless, tmp_path: Path):
    download(endless, tmp_path / "file")
    assert (tmp_path / "file").stat().st_size == 16 * BLOCK


def test_no_more_is_taken_than_the_server_announced(endless, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_Endless, "announced", 100_000)
    download(endless, tmp_path / "file")
    assert (tmp_path / "file").stat().st_size == 100_000


def test_a_refusal_is_not_repeated(server, tmp_path: Path):
    with pytest.raises(InputError, match=r"the server refuses it \(404"):
        download(f"{url(server)}x", tmp_path / "file.json")
    assert len(server.requests) == 1


def test_an_authorisation_stays_with_the_host_it_was_given_to(server, tmp_path: Path):
    server.add("models", "a/b", {"w.safetensors": CONTENT})
    headers = {"Authorization": "Bearer secret"}
    download(f"{server.url}/a/b/resolve/main/w.safetensors", tmp_path / "w", headers=headers)
    assert [request.authorised for request in server.requests] == [True, False]
