"""List the shards of one run of a model, once they are found to be of one piece.

Later stages wait for the list in place of the shards: each of their jobs then waits for one small
file, and a workflow of thousands of shards is planned in a time that grows with their number, not
with its square.
"""

from collections.abc import Mapping
from pathlib import Path

from vrp.data.images import file_sha256
from vrp.errors import InputError
from vrp.study.context import StageContext
from vrp.tables.files import read_provenance, read_table
from vrp.tables.items import ITEMS
from vrp.tables.shard_list import write_shard_list

_SAME = ("model", "revision", "weights", "config", "code")
_WORDS = {"config": "other keys of the configuration", "code": "other code"}


def run(context: StageContext) -> None:
    """Write the list of the shards with the SHA-256 of each.

    Its inputs are the shards of every table of one stage, and the items tables that must be equal
    where the shards are another study's. Equal shards give an equal list, so that a shard that was
    merely made again redoes nothing.

    Raises:
        InputError: a shard is missing or damaged, or was made by another model, code or
            configuration than the first; or the items differ.
    """
    shards = dict(context.inputs)
    items = shards.pop("items")
    for other in items[1:]:
        if not read_table(other, ITEMS).equals(read_table(items[0], ITEMS)):
            raise InputError(
                f"extraction_from: {other} holds other items than {items[0]}; sample the same "
                "items, or remove the key"
            )
    paths = [path for of_table in shards.values() for path in of_table]
    first = read_provenance(paths[0])
    for path in paths[1:]:
        _require_same(path, read_provenance(path), paths[0], first)
    write_shard_list(
        context.write("list"),
        made_by={key: first.get(key, "") for key in _SAME},
        shards={
            table: {path: file_sha256(path) for path in of_table}
            for table, of_table in shards.items()
        },
    )


def _require_same(
    path: Path, found: Mapping[str, str], first_path: Path, first: Mapping[str, str]
) -> None:
    for key in _SAME:
        if found.get(key, "") != first.get(key, ""):
            what = _WORDS.get(key, f"{key} {found.get(key, '')!r}, not {first.get(key, '')!r}")
            raise InputError(
                f"{path}: was made with {what}, unlike {first_path}; delete the shards that are "
                "out of date and rerun the stage that makes them"
            )
