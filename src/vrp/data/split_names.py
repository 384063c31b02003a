"""Which split rows of an answer file say that they belong to."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from vrp.data.answer_fields import ANSWER_KEYS, canonical, is_of_the_model
from vrp.data.answer_rows import IN_GROUP, AnswerTable, Column
from vrp.data.datasets.pope import POPE_SPLITS
from vrp.errors import InputError

_SHORT = {"adv": "adversarial", "pop": "popular"}
_KINDS = (frozenset(POPE_SPLITS), frozenset({"coco", "gqa", "aokvqa"}))
"""POPE's splits, and the image sets that it is published for."""
_NOT_CHANCE = frozenset({"adversarial", "popular", "pope"})
"""Words that no setting of a sampler is called by."""
_CAMEL = re.compile(r"(?<=POPE)|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?<!POP)(?=[A-Z][a-z])")
_PIECE = re.compile(
    f"{'|'.join(POPE_SPLITS)}|pope|{'|'.join(_KINDS[1])}|answers?|{'|'.join(_SHORT)}"
)
_SUFFIXES = re.compile(r"(?:\.(?:jsonl?|ndjson|txt|gz))+$", re.IGNORECASE)


def bare_name(path: Path) -> str:
    """A file's name without the suffixes of its format; it may hold dots, as versions do."""
    return _SUFFIXES.sub("", path.name)


def split_words(name: str) -> set[str]:
    """Words of a name, POPE's abbreviated splits written out.

    In words written together (``popeAdversarial``, ``popeadversarial``) POPE and its splits are
    found, too; those that may mean something else only beside POPE.
    """
    words = _words(name)
    inner = _words(_CAMEL.sub(" ", name)).union(*map(_pieces, words))
    sure = _NOT_CHANCE if "pope" not in words | inner else {"pope", *POPE_SPLITS, *_SHORT}
    return {_SHORT.get(word, word) for word in words | (inner & sure)}


def _words(text: str) -> set[str]:
    return set(re.split(r"[^a-z]+", text.casefold()))


def _pieces(word: str) -> set[str]:
    """What a word is put together from, where each piece is known."""
    pieces = _PIECE.findall(word)
    return set(pieces) if "".join(pieces) == word else set()


def refuse_other_name(path: Path, splits: Collection[str], *, alone: bool) -> None:
    """Raise InputError where an answer file is named after another split than it is given for.

    ``alone``: it is the only answer file, whose name may say random of something else.
    """
    words = split_words(bare_name(path))
    said = words & set(POPE_SPLITS)
    known = set().union(*map(split_words, splits)) & set(POPE_SPLITS)
    sure = said & _NOT_CHANCE or "pope" in words or not alone
    if sure and len(said) == 1 and known and not said & known:
        raise InputError(
            f"{path}: by its name the answers to {said.pop()}, but given for "
            f"{' and '.join(sorted(splits))}; give answer files in the order of the question "
            "files, or rename it"
        )


def named_splits(
    table: AnswerTable, sources: Mapping[str, str], *, others: bool = False
) -> list[set[str]]:
    """For each row the splits (of split → name of its question file) that it names, or else all.

    ``others``: rows of other splits belong there, too; they have none of these. Raises InputError
    where another row names none of the splits but another one, or several apart.
    """
    found = [set(sources) for _ in table.span]
    for (_, row), values in _said(table).items():
        fitting = set().union(*(fitting_splits(value, sources) for _, value in values))
        if not found[row] & fitting and not others:
            column, value = values[0]
            raise InputError(
                f"{table.where(row)}: key {column.path!r} is {value[:60]!r}, but the questions "
                f"are of the split {' or '.join(found[row])}; give the question file that was "
                "answered"
            )
        found[row] &= fitting
    return found


def n_naming_split(table: AnswerTable, sources: Mapping[str, str]) -> int:
    """How many rows name their split."""
    said = [(row, value) for (_, row), of_row in _said(table).items() for _, value in of_row]
    return len({row for row, value in said if value in sources or split_words(value) & _KINDS[0]})


def _said(table: AnswerTable) -> dict[tuple[str, int], list[tuple[Column, str]]]:
    """Name of a field that may hold the split, and row → its texts, several of a list."""
    said: dict[tuple[str, int], list[tuple[Column, str]]] = {}
    for column in filter(_may_name_split, table.columns.values()):
        for row, value in column.values.items():
            if isinstance(value, str):
                said.setdefault((column.name, row), []).append((column, value))
    return said


def _may_name_split(column: Column) -> bool:
    if column.name == canonical(IN_GROUP) or column.names("split"):
        return True
    if column.name in ANSWER_KEYS or column.names("question") or column.names("image"):
        return False
    # A model may be called adversarial, too.
    words = {"pope"} if is_of_the_model(column.name) else _NOT_CHANCE
    return any(
        isinstance(value, str) and len(value.split()) < 4 and split_words(value) & words
        for value in column.values.values()
    )


def fitting_splits(value: str, sources: Mapping[str, str]) -> set[str]:
    """The splits (split → name of its question file) that a value may name; all of them where it
    names none.
    """
    if value in sources:
        return {value}
    said = split_words(value) if len(value) <= 100 else set()
    known = {split: split_words(f"{split} {source}") for split, source in sources.items()}
    # What a row and a split both say, of the split and of the image set, has to be the same.
    return {
        split
        for split, words in known.items()
        if all(said & words & kind or not said & kind or not words & kind for kind in _KINDS)
    }
