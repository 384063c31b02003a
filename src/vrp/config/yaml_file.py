"""YAML files in which no key is given twice."""

from pathlib import Path
from typing import Any

import yaml

from vrp.errors import InputError


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping with a key that it has already, of which YAML readers keep the last."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key_node.tag != _MERGE:
                key = self.construct_object(key_node)
            # '<<' in quotes is a key like any other.
            known = (key_node.tag == _MERGE, key)
            if known in lines:
                raise RepeatedKeyError(key, lines[known], line)
            lines[known] = line
        return node


_MERGE = "tag:yaml.org,2002:merge"


class RepeatedKeyError(InputError):
    """A mapping gives a key twice."""

    def __init__(self, key: Any, first: int, second: int) -> None:
        where = f"lines {first} and {second}" if first != second else f"line {first}"
        super().__init__(f"key {key!r} is given twice ({where}); remove one")


def parse_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        RepeatedKeyError: a key is given twice.
        Exception: it is no YAML; PyYAML raises what it meets: KeyError, IndexError, …
    """
    return yaml.load(text, _UniqueKeyLoader)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        InputError: it cannot be read, is no YAML, or gives a key twice.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give an existing file"
        ) from None
    except RepeatedKeyError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not valid YAML ({reason})") from None
