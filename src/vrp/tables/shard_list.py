"""Lists of the shards of one run of a model: the small files that later stages wait for."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.errors import InputError
from vrp.study.provenance import digest
from vrp.tables.seal import Seal, read_seal
from vrp.tables.sealed_json import read_sealed_json, write_sealed_json


class ShardList(NamedTuple):
    """The shards of one stage and model."""

    made_by: dict[str, str]
    """What all shards have in common: study, stage, model, revision, digests, versions."""
    rows: str
    """Digest of the rows of all shards."""
    tables: dict[str, dict[Path, str]]
    """Table → its shards in order, each with its seal."""


def write_shard_list(
    path: Path, *, made_by: Mapping[str, str], shards: Mapping[str, Mapping[Path, Seal]]
) -> None:
    """Write the shards of one run; equal shards give an equal list.

    They are named relative to the list, so that a folder that is moved whole is still of one piece.

    Args:
        path: the list (JSON).
        made_by: what all shards have in common: study, stage, model, revision, digests, versions.
        shards: table → its shards, in order, each with its seal.
    """
    folder = path.parent.absolute()
    content = {
        "made_by": dict(made_by),
        "rows": digest([[seal.rows for seal in of_table.values()] for of_table in shards.values()]),
        "tables": {
            table: {
                Path(os.path.relpath(shard.absolute(), folder)).as_posix(): seal.seal
                for shard, seal in of_table.items()
            }
            for table, of_table in shards.items()
        },
    }
    write_sealed_json(path, content)


def read_shard_list(path: Path) -> ShardList:
    """Read a list; its shards are not looked at.

    Raises:
        InputError: the file is missing, damaged, or no list of shards.
    """
    content = read_sealed_json(path, made_by="gather")
    try:
        tables = {
            table: {Path(os.path.normpath(path.parent / name)): seal for name, seal in of.items()}
            for table, of in content["tables"].items()
        }
        return ShardList(dict(content["made_by"]), str(content["rows"]), tables)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path}: is not a list of shards; delete it and run `vrp gather` again"
        ) from None


def listed_shards(lists: Path | Sequence[Path], table: str) -> list[Path]:
    """Return all shards of a table in one list, or in those of several models.

    Each is found to be the very one that was listed, by its footer; its rows are checked where
    they are read.

    Args:
        lists: files of `write_shard_list`.
        table: such as `answers`, or `blind/hidden`.

    Raises:
        InputError: a list is missing, damaged, or lists no shards of the table; or a shard is
            missing, damaged, or not the one that was listed.
    """
    paths = [lists] if isinstance(lists, Path) else lists
    return [shard for path in paths for shard in _shards_in(path, table)]


def _shards_in(path: Path, table: str) -> list[Path]:
    tables = read_shard_list(path).tables
    if table not in tables:
        raise InputError(
            f"{path}: lists no shards of the table {table}; give a list that has them, or delete "
            "this one and run `vrp gather` again"
        )
    for shard, listed in tables[table].items():
        if read_seal(shard).seal != listed:
            raise InputError(
                f"{shard}: is not the file that {path} lists: it was made again or replaced since; "
                "run `vrp gather` again"
            )
    return list(tables[table])
