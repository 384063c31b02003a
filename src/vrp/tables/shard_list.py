"""Lists of the shards of one run of a model: the small files that later stages wait for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from vrp.errors import InputError
from vrp.tables.files import write_text


def write_shard_list(
    path: Path, *, made_by: Mapping[str, str], shards: Mapping[str, Mapping[Path, str]]
) -> None:
    """Write the shards of one run; equal shards give an equal list.

    Args:
        path: the list (JSON).
        made_by: what all shards have in common: model, revision, digests.
        shards: table → its shards, in order, each with the SHA-256 of its content.
    """
    tables = {
        table: {str(shard): checksum for shard, checksum in of_table.items()}
        for table, of_table in shards.items()
    }
    write_text(path, json.dumps({**made_by, "tables": tables}, indent=1) + "\n")


def listed_shards(lists: Path | Sequence[Path], table: str) -> list[Path]:
    """Return all shards of a table in one list, or in those of several models.

    Args:
        lists: files of `write_shard_list`.
        table: such as `answers`, or `blind/hidden`.

    Raises:
        InputError: a file is missing, or lists no shards of the table.
    """
    paths = [lists] if isinstance(lists, Path) else lists
    return [shard for path in paths for shard in _shards_in(path, table)]


def _shards_in(path: Path, table: str) -> list[Path]:
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["tables"][table]
        return [Path(shard) for shard in dict(shards)]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run `vrp gather` first"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: lists no shards of the table {table}; give a list that has them, or delete "
            "this one and run `vrp gather` again"
        ) from None
