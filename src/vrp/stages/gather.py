"""List the shards of one run of a model, once they are found to be of one piece.

Later stages wait for the list in place of the shards: each of their jobs then waits for one small
file, and a workflow of thousands of shards is planned in a time that grows with their number, not
with its square.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from vrp.errors import InputError
from vrp.study.context import StageContext
from vrp.study.provenance import INPUTS, SHARD
from vrp.study.table_origins import require_versions, rows_digest
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table
from vrp.tables.seal import check_table, read_provenance
from vrp.tables.shard_list import write_shard_list

_SAME = ("study", "stage", "model", "revision", "weights", "config", "code", INPUTS)
_WORDS = {
    "config": "other keys of the configuration",
    "code": "other code",
    INPUTS: "other rows of the tables that it was made from",
}


def run(context: StageContext) -> None:
    """Write the list of the shards with the seal of each, after all their pages were read.

    Its inputs are the shards of every table of one stage, and the items tables that must be equal
    where the shards are another study's. What each shard must state is in the context's
    provenance. Equal shards give an equal list, so that a shard that was merely made again redoes
    nothing.

    Raises:
        InputError: a shard is missing or damaged, is another one's, or was made by another model,
            code or configuration than it should be or than the first; or the items differ.
    """
    shards = dict(context.inputs)
    items = shards.pop("items")
    first_path = next(path for of_table in shards.values() for path in of_table)
    first = read_provenance(first_path)
    _require_same(first_path, first, context.provenance, "as this study's should be")
    for of_table in shards.values():
        for place, path in enumerate(of_table):
            found = read_provenance(path)
            _require_same(path, found, {key: first.get(key, "") for key in _SAME}, first_path)
            require_versions(path, found, first, first_path)
            _require_place(path, found, place, len(of_table))
    write_shard_list(
        context.output_path("list"),
        made_by={key: first.get(key, "") for key in (*_SAME, "versions")}
        | {INPUTS: _with_own_items(first.get(INPUTS, ""), items)},
        shards={
            table: {path: check_table(path) for path in of_table}
            for table, of_table in shards.items()
        },
    )


def _require_same(
    path: Path, found: Mapping[str, str], expected: Mapping[str, str], whose: Path | str
) -> None:
    for key, value in expected.items():
        if found.get(key, "") != value:
            what = _WORDS.get(key, f"{key} {found.get(key, '')!r}, not {value!r}")
            raise InputError(
                f"{path}: was made with {what}, unlike {whose}; delete the shards that are out of "
                "date and rerun the stage that makes them"
            )


def _require_place(path: Path, found: Mapping[str, str], place: int, n_shards: int) -> None:
    stated = found.get(SHARD, f"{place}/{n_shards}")
    if stated != f"{place}/{n_shards}":
        raise InputError(
            f"{path}: holds shard {stated}, not {place}/{n_shards}: another shard was put in its "
            "place; delete it and rerun the stage that makes it"
        )


def _with_own_items(inputs: str, items: Sequence[Path]) -> str:
    """Return the inputs of shared shards with this study's own items, which must be equal."""
    if not items:
        return inputs
    for other in items[1:]:
        if not read_table(other, ITEMS).equals(read_table(items[0], ITEMS)):
            raise InputError(
                f"extraction_from: {other} holds other items than {items[0]}; sample the same "
                "items, or remove the key"
            )
    stated = json.loads(inputs or "{}")
    if stated.get("items") not in (None, *(rows_digest(path) for path in items)):
        raise InputError(
            f"extraction_from: {items[-1]} was sampled again after its shards were made; run that "
            "study to its end"
        )
    return json.dumps(stated | {"items": rows_digest(items[0])}, sort_keys=True)
