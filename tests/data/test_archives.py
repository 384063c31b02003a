import functools
import http.server
import threading
import zipfile

import pytest

from vrp.data.archives import OFFICIAL, Archive, archives_of, download_official, unpack
from vrp.download import Checksum
from vrp.errors import InputError


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "published"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=root)
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
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
        return {archive.url.rsplit("/", 1)[1] for archive in archives_of(datasets)}

    text = {"TextVQA_0.5.1_val.json", "train_val_images.zip"}
    assert names("textvqa") == text
    assert names("pope") == {
        *(f"coco_pope_{split}.json" for split in ("random", "popular", "adversarial")),
        "val2014.zip",
    }
    assert names("pope", "vqa") >= {"val2014.zip", "v2_Annotations_Val_mscoco.zip"}
    assert not names("pope", "vqa") & text
    assert archives_of(("pope", "vqa", "textvqa")) == OFFICIAL


def test_a_missing_archive_says_where_to_put_it_by_hand(server, tmp_path):
    with pytest.raises(InputError, match=r"404.*put the file at .*/pope/a\.json"):
        download_official(tmp_path / "data", [Archive(f"{server[1]}/a.json", "pope")])
    assert not list(tmp_path.glob("data/**/*.json"))


def test_an_archive_with_another_checksum_is_not_unpacked(server, tmp_path):
    root, url = server
    (root / "val.zip").write_bytes(b"something else")
    archives = [Archive(f"{url}/val.zip", ".", Checksum("sha256", "0" * 64))]
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


def test_a_damaged_archive_is_deleted(tmp_path):
    packed = tmp_path / "bad.zip"
    packed.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="damaged"):
        unpack(packed, tmp_path)
    assert not packed.exists()
