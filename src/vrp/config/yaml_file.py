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
            if key_node.tag == _MERGE or not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise _RepeatedKeyError(key, lines[key], line)
            lines[key] = line
        return node


_MERGE = "tag:yaml.org,2002:merge"


class _RepeatedKeyError(InputError):
    def __init__(self, key: Any, first: int, second: int) -> None:
        where = f"lines {first} and {second}" if first != second else f"line {first}"
        super().__init__(f"key {key!r} is given twice ({where}); remove one")


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        InputError: it cannot be read, is no YAML, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.load(text, _UniqueKeyLoader)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give an existing file"
        ) from None
    except _RepeatedKeyError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # PyYAML raises what it meets: KeyError, IndexError, …
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not valid YAML ({reason})") from None
