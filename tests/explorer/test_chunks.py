"""How the explorer's files are packed, and how many there are."""

import numpy as np
import pytest
from explorer_files_reader import read_chunk

from vrp.explorer.chunks import Chunk, as_text, write_chunk
from vrp.study.explorer_files import cut_points, explorer_files


def test_bytes_as_text_take_fifteen_bits_a_character():
    assert as_text(b"\xff\xff") == chr(0x3400 + 2**15 - 1) + chr(0x3400 + 2**14)
    assert as_text(b"") == ""


def test_a_file_gives_back_what_was_put_in(tmp_path):
    values = np.array([0.1, -2.5e-30, np.nan, 3e38, 0.0], dtype=np.float32)
    rounded = np.array([-0.0004, 0.0006, np.nan, -123456.789, 2.0])
    texts = ["no", None, "", 'nö 🦆\u2028"</script>', "no"]
    chunk = Chunk()
    chunk.add_numbers("exact", values)
    chunk.add_rounded("rounded", rounded, step=1e-3)
    chunk.add_integers("whole", [-3, 0, 70000, np.nan])
    chunk.add_words("texts", texts)
    chunk.add_bytes("bytes", b"\x00\x01\xfe")
    stamp = write_chunk(tmp_path / "a.js", "a.js", chunk)
    name, stated, found = read_chunk(tmp_path / "a.js")
    assert (name, stated) == ("a.js", stamp)
    np.testing.assert_array_equal(found["exact"], values)
    np.testing.assert_allclose(found["rounded"], [0, 0.001, np.nan, -123456.789, 2], atol=1e-9)
    np.testing.assert_array_equal(found["whole"], [-3, 0, 70000, np.nan])
    assert found["texts"] == texts
    assert found["bytes"].tobytes() == b"\x00\x01\xfe"


def test_a_number_too_large_for_its_step_is_refused():
    with pytest.raises(ValueError, match="too large for a step"):
        Chunk().add_rounded("margin", [1e9], step=1e-3)


def test_the_number_of_files_follows_from_the_configuration():
    files = explorer_files(["a", "b"], 3090, 128)
    assert [len(files.items), len(files.images)] == [2, 25]
    assert [len(files.answers["b"]), len(files.details["a"])] == [2, 25]
    assert len(set(files.names())) == len(files.names()) == 2 + 25 + 2 * 27
    assert cut_points(10, 4) == [0, 2, 5, 7, 10]
    assert cut_points(1, 3) == [0, 0, 0, 1]
