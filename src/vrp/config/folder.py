"""Folders as a configuration spells them: `~` and variables are expanded here and nowhere else."""

import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, SerializationInfo, SerializerFunctionWrapHandler
from pydantic.functional_serializers import WrapSerializer

AS_SPELLED = "as a configuration spells it"
"""Context of `model_dump` for a mapping that is going to be read as a configuration again."""

SPLIT = "{split}"
"""Stands for a split's name in a path."""
_STAND_IN = "·split·"  # of that, where braces are refused
_VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
# What file systems take (ext4, XFS, NFS), and what a study's own files need of the longest path.
_LONGEST_NAME, _LONGEST_PATH = 255, 3_500
# Control characters, line separators, and bytes that are no UTF-8.
_NOT_PRINTED = frozenset({"Cc", "Zl", "Zp", "Cs"})


def expanded(text: str) -> str:
    """Return a path with `~`, `$NAME` and `${NAME}` expanded; `$$` stands for a dollar sign.

    Raises:
        ValueError: a variable is not set or empty, there is no such user, or the path is one that
            Snakemake cannot hold.
    """
    head, slash, rest = text.partition("/")
    if head.startswith("~"):
        home = os.path.expanduser(head)  # noqa: PTH111  pathlib raises where there is none
        if home == head:
            raise ValueError(f"no home folder is known for {head}; write the path out")
    else:
        home = _VARIABLE.sub(_value, head)
    path = home + slash + _VARIABLE.sub(_value, rest)
    _refuse_unusable(path)
    return path


def _value(found: re.Match[str]) -> str:
    dollar, *names = found.groups()
    if dollar:
        return "$"
    name = next(filter(None, names))
    if not os.environ.get(name):
        raise ValueError(f"${name} is not set; set it, or write $$ for a dollar sign")
    return os.environ[name]


def _refuse_unusable(path: str) -> None:
    if found := next((sign for sign in "{}" if sign in path), None):
        raise ValueError(f"a path may hold no {found}: Snakemake reads braces as wildcards")
    if any(unicodedata.category(sign) in _NOT_PRINTED for sign in path):
        raise ValueError(
            "a path may hold no line break, control character or byte that is not text"
        )
    if path.startswith("-"):
        raise ValueError("a path that opens with - reads as an option; write it from the root (/)")
    if any(len(name.encode()) > _LONGEST_NAME for name in path.split("/")):
        raise ValueError(f"a folder's name may have {_LONGEST_NAME} bytes at most")
    if len(path.encode()) > _LONGEST_PATH:
        raise ValueError(f"a path may have {_LONGEST_PATH} bytes at most")


def spelled(path: str) -> str:
    """Return the text that `expanded` makes this path of."""
    return ("./" if path.startswith("~") else "") + path.replace("$", "$$")


def _spelled_where_asked(
    value: Any, serialize: SerializerFunctionWrapHandler, info: SerializationInfo
) -> Any:
    found = serialize(value)
    return spelled(found) if info.context == AS_SPELLED and isinstance(found, str) else found


def _one_spelling(folder: str) -> str:
    path = expanded(folder)
    plain = os.path.normpath(path)
    # `..` behind a link leads elsewhere than its text says.
    meant = os.path.realpath(path)
    return str(Path(plain if os.path.realpath(plain) == meant else meant))


def _expanded_around_split(place: str) -> str:
    if set("{}") & set(place.replace(SPLIT, "")):
        raise ValueError(f"{place!r} may hold no braces but {SPLIT}, the split's name")
    return str(Path(expanded(place.replace(SPLIT, _STAND_IN)))).replace(_STAND_IN, SPLIT)


_Serialized = WrapSerializer(_spelled_where_asked, return_type=Any)

Place = Annotated[str, AfterValidator(expanded), _Serialized]
"""A path, or a name that stands for one."""

SplitPlace = Annotated[str, AfterValidator(_expanded_around_split), _Serialized]
"""A path in which `{split}` stands for a split's name."""

Folder = Annotated[str, AfterValidator(_one_spelling), _Serialized]
"""A folder, in one spelling: the workflow and the stages must name it alike."""
