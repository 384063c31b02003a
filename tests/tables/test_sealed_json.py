"""JSON files that carry a digest: one line where they are not as they were written."""

import pytest

from vrp.errors import InputError
from vrp.tables.sealed_json import read_sealed_json, write_sealed_json


@pytest.mark.parametrize("content", ["[" * 10**5, '{"a":' * 10**5, "[]x", "1", "\0"])
def test_what_is_no_object_is_one_line(tmp_path, content):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"list\.json: is not a JSON object \(damaged\?\)"):
        read_sealed_json(path, made_by="gather")


def test_an_edited_one_is_refused(tmp_path):
    path = tmp_path / "list.json"
    write_sealed_json(path, {"a": 1})
    assert read_sealed_json(path, made_by="gather") == {"a": 1}
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(InputError, match="is not as it was written"):
        read_sealed_json(path, made_by="gather")
