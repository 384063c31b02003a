import functools
import hashlib
import http.server
import json
import stat
import threading
import zipfile
import zlib
from collections import namedtuple

import pytest

from vrp.data.archives import (
    archives_of,
    download_official,
    downloaded_digests,
    not_downloaded,
    unpack,
)
from vrp.data.dataset import Archive
from vrp.data.datasets import load_datasets
from vrp.errors import InputError


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "published"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=root)
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
    yield root, f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_archives_are_unpacked_once(server, tmp_path):
    root, url = server
    with zipfile.ZipFile(root / "val.zip", "w") as archive:
        archive.writestr("val2014/a.txt", "a")
    archives = [Archive(f"{url}/val.zip", ".")]
    download_official(tmp_path / "data", archives)
    assert (tmp_path / "data" / "val2014" / "a.txt").read_text() == "a"
    (root / "val.zip").unlink()
    download_official(tmp_path / "data", archives)


def test_of_the_archives_those_of_the_data_sets_are_taken():
    def names(*datasets):
        return {archive.url.rsplit("/", 1)[1] for archive in archives_of(load_datasets(datasets))}

    text = {"TextVQA_0.5.1_val.json", "train_val_images.zip"}
    assert names("textvqa") == text
    assert names("pope") == {
        *(f"coco_pope_{split}.json" for split in ("random", "popular", "adversarial")),
        "val2014.zip",
    }
    assert names("pope", "vqa") >= {"val2014.zip", "v2_Annotations_Val_mscoco.zip"}
    assert not names("pope", "vqa") & text
    assert len(names("pope", "vqa", "textvqa")) == 8


def test_a_missing_archive_says_where_to_put_it_by_hand(server, tmp_path):
    with pytest.raises(InputError, match=r"404.*put the file at .*/pope/a\.json"):
        download_official(tmp_path / "data", [Archive(f"{server[1]}/a.json", "pope")])
    assert not list(tmp_path.glob("data/**/*.json"))


def test_an_archive_with_another_checksum_is_not_unpacked(server, tmp_path):
    root, url = server
    (root / "val.zip").write_bytes(b"something else")
    archives = [Archive(f"{url}/val.zip", ".", "0" * 64)]
    with pytest.raises(InputError, match="arrived damaged twice"):
        download_official(tmp_path / "data", archives)
    assert [path.name for path in (tmp_path / "data").rglob("*")] == [".downloads"]


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path):
    packed = tmp_path / "bad.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(InputError, match="outside its folder"):
        unpack(packed, tmp_path / "data")
    assert not (tmp_path / "outside.txt").exists()


def _zip(path, *members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


@pytest.mark.parametrize(
    ("mode", "words"),
    [(stat.S_IFLNK | 0o777, "is a symbolic link"), (stat.S_IFIFO | 0o644, "is no plain file"),
     (stat.S_IFCHR | 0o644, "is no plain file")],
)  # fmt: skip
def test_a_member_that_is_no_file_is_one_clear_line(tmp_path, mode, words):
    plain = ("a.txt", "a", stat.S_IFREG | 0o644)
    packed = _zip(tmp_path / "bad.zip", plain, ("val2014/link", "/etc/passwd", mode))
    with pytest.raises(InputError, match=rf"bad\.zip: 'val2014/link' {words}; not unpacked"):
        unpack(packed, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_encrypted_member_is_one_clear_line(tmp_path):
    packed = _zip(tmp_path / "bad.zip", ("a.txt", "a", 0))
    content = packed.read_bytes()
    directory = content.index(b"PK\x01\x02")
    packed.write_bytes(content[: directory + 8] + b"\x01" + content[directory + 9 :])
    with pytest.raises(InputError, match=r"'a\.txt' is encrypted; not unpacked"):
        unpack(packed, tmp_path / "data")


@pytest.mark.parametrize("n_members", [1, 40])
def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path, n_members):
    zeros = bytes(20_000_000 // n_members)
    packed = _zip(tmp_path / "bomb.zip", *((f"{i}.txt", zeros, 0) for i in range(n_members)))
    with pytest.raises(InputError, match=r"would unpack to 20000000 in \d+ files.*not unpacked"):
        unpack(packed, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_member_never_unpacks_to_more_than_it_announces(tmp_path):
    packed = _zip(tmp_path / "lie.zip", ("a.txt", b"x" * 5000, 0))
    content = bytearray(packed.read_bytes())
    for start, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # its two headers
        at = content.index(start) + place
        content[at : at + 4] = (10).to_bytes(4, "little")
    packed.write_bytes(content)
    with pytest.raises(InputError, match="damaged and deleted"):
        unpack(packed, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.txt"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "a/b"], "'a' occurs twice"),
        (["a/b", "a"], "'a' occurs twice"),
        (["a/", "a"], "'a' occurs twice"),
        (["a/b", "a/./b"], "'a/./b' occurs twice"),
        (["x", "y", "x"], "'x' occurs twice"),
        (["n" * 400], "'nnn.*…' has a name of more than 255 bytes"),
        (["d/" + "ü" * 200 + "/a"], "has a name of more than 255 bytes"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_cannot_be_unpacked_are_one_clear_line(tmp_path, names, words):
    packed = _zip(tmp_path / "bad.zip", *((name, "", 0) for name in names))
    with pytest.raises(InputError, match=rf"bad\.zip: .*{words}; not unpacked") as caught:
        unpack(packed, tmp_path / "data")
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    packed = _zip(tmp_path / "good.zip", ("a/b.txt", "b", 0))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a file is there")
    with pytest.raises(InputError, match=r"good\.zip: cannot be unpacked into"):
        unpack(packed, tmp_path / "data")
    assert (tmp_path / "data" / "a").read_text() == "a file is there"


def test_an_archive_that_does_not_fit_on_the_disk_is_refused_before(tmp_path, monkeypatch):
    packed = _zip(tmp_path / "big.zip", ("a.txt", "abc", 0))
    free = namedtuple("Usage", "free")(free=2)
    monkeypatch.setattr("shutil.disk_usage", lambda place: free)
    with pytest.raises(InputError, match=r"unpacks to .* GB are free in"):
        unpack(packed, tmp_path / "data")


def test_json_that_packs_well_is_unpacked(tmp_path):
    rows = json.dumps([{"question_id": i, "answers": ["yes"] * 10} for i in range(20_000)])
    packed = _zip(tmp_path / "good.zip", ("a.json", rows, stat.S_IFREG | 0o644))
    unpack(packed, tmp_path / "data")
    assert (tmp_path / "data/a.json").read_text() == rows


def test_a_damaged_archive_is_deleted(tmp_path):
    packed = tmp_path / "bad.zip"
    packed.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="damaged"):
        unpack(packed, tmp_path)
    assert not packed.exists()


def test_a_member_that_does_not_decompress_is_refused_and_the_archive_deleted(tmp_path):
    packed = tmp_path / "cut.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(range(256)) * 400)
        start = archive.getinfo("a.txt").header_offset + 30 + len("a.txt")
    content = bytearray(packed.read_bytes())
    content[start : start + 60] = b"\xff" * 60  # a deflated stream of no known block type
    packed.write_bytes(content)
    with pytest.raises(zlib.error), zipfile.ZipFile(packed) as archive:
        archive.read("a.txt")
    with pytest.raises(InputError, match=r"cut\.zip: damaged and deleted; run it again"):
        unpack(packed, tmp_path / "data")
    assert not packed.exists()


@pytest.mark.parametrize(
    "page", ["<!DOCTYPE html>\n<html>log in</html>", "", '{"question_id": 1\n}']
)
def test_a_page_instead_of_the_file_is_not_taken_for_it(server, tmp_path, page):
    root, url = server
    archives = [Archive(f"{url}/q.json", "pope")]
    (root / "q.json").write_text(page.replace("\n}", '}}\n{"question_id": 2}'))
    with pytest.raises(InputError, match=r"q\.json: the download is not JSON"):
        download_official(tmp_path / "data", archives)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not_downloaded(tmp_path / "data", archives) == ["q.json"]
    (root / "q.json").write_text('{"question_id": 1}\n{"question_id": 2}\n')
    download_official(tmp_path / "data", archives)
    assert not_downloaded(tmp_path / "data", archives) == []


@pytest.mark.parametrize("content", ['{"data": [\n{"a": 1}\n]}', '[{"a": 1}]', "\ufeff{}"])
def test_json_in_one_piece_is_json_too(server, tmp_path, content):
    root, url = server
    (root / "t.json").write_text(content, encoding="utf-8")
    download_official(tmp_path / "data", [Archive(f"{url}/t.json", "textvqa")])
    assert (tmp_path / "data" / "textvqa" / "t.json").is_file()


def test_a_page_instead_of_a_zip_archive_is_not_taken_for_it(server, tmp_path):
    root, url = server
    (root / "val.zip").write_text("<html>log in</html>")
    archives = [Archive(f"{url}/val.zip", ".")]
    with pytest.raises(InputError, match="damaged and deleted"):
        download_official(tmp_path / "data", archives)
    assert not_downloaded(tmp_path / "data", archives) == ["val.zip"]


def test_what_arrived_is_on_record(server, tmp_path):
    root, url = server
    with zipfile.ZipFile(root / "val.zip", "w") as archive:
        archive.writestr("val2014/a.txt", "a")
    (root / "q.json").write_text(json.dumps({"a": 1}))
    archives = [Archive(f"{url}/val.zip", "."), Archive(f"{url}/q.json", "pope")]
    data = tmp_path / "data"
    download_official(data, archives)
    assert downloaded_digests(data, archives) == {
        f"{url}/{name}": hashlib.sha256((root / name).read_bytes()).hexdigest()
        for name in ("val.zip", "q.json")
    }
    (data / ".downloads" / "q.json.done").write_text("")
    assert list(downloaded_digests(data, archives)) == [f"{url}/val.zip"]
