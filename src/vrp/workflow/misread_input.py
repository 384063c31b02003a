"""What Snakemake would read otherwise than it was given, without a word.

Of a key or an option that is given twice, it takes the last; values of `--config` it reads as YAML,
where `#` opens a comment: `results=my results #1` is another folder.
"""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from snakemake.cli import get_profile_dir

from vrp.config.yaml_file import RepeatedKeyError, parse_yaml, read_yaml
from vrp.errors import InputError

_TEMPLATE = "__use_yte__"  # Snakemake would run the code of such a file; `vrp` does not


def refuse_misread_input(workflow: Any, arguments: Sequence[str]) -> None:
    """Refuse a key that a configuration file, a profile or `--config` gives twice, a `--config` or
    `--configfile` before the last, and a value of `--config` that is text and would be read as
    another one.

    Args:
        workflow: Snakemake's.
        arguments: of its command line.

    Raises:
        InputError: naming the file, the key and both lines, or the option.
    """
    for file in workflow.configfiles:
        path = Path(os.path.relpath(file))
        content = read_yaml(path)
        if isinstance(content, dict) and _TEMPLATE in content:
            raise InputError(
                f"{path}: key {_TEMPLATE!r}: templates are not supported; write it out"
            )
    for profile in _profile_files(arguments, Path(workflow.basedir)):
        read_yaml(profile)
    _refuse_repeated_options(arguments)
    keys: set[str] = set()
    for entry in workflow.config_settings.config_args or ():
        key, _, given = entry.partition("=")
        read, text = workflow.config_settings.config.get(key), given.strip()
        if isinstance(read, str) and text != read and not re.fullmatch(r"(['\"]).*\1", text):
            raise InputError(f"--config: {key} reads as {read!r}; put quotes around the value")
        _refuse_repeated_keys(key, text)
        if key in keys:
            raise InputError(f"--config: key {key!r} is given twice; remove one")
        keys.add(key)


def _refuse_repeated_options(arguments: Sequence[str]) -> None:
    """Refuse values that a later option of the same name would replace."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-C", action="append", nargs="*", default=[])
    parser.add_argument("--configfile", "--configfiles", action="append", nargs="+", default=[])
    given, _ = parser.parse_known_args(arguments)
    for option, times in vars(given).items():
        lost = [value for values in times[:-1] for value in values if value not in times[-1]]
        if lost:
            raise InputError(
                f"--{option} is given {len(times)} times, and {lost[0]} would be ignored; give all "
                f"values behind one --{option}"
            )


def _refuse_repeated_keys(key: str, value: str) -> None:
    """Refuse a mapping as a value of `--config` that gives a key twice."""
    try:
        parse_yaml(value)
    except RepeatedKeyError as error:
        raise InputError(f"--config: in {key}, {error}") from None
    except Exception:
        return  # no YAML: Snakemake says so, or takes it as text


def _profile_files(arguments: Sequence[str], checkout: Path) -> Iterator[Path]:
    """Files of the profiles that Snakemake reads its options from."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--workflow-profile", default="default")
    given, _ = parser.parse_known_args(arguments)
    of_workflow = given.workflow_profile
    places = [Path(of_workflow), *(Path(at, "profiles", of_workflow) for at in ("", checkout))]
    names = [os.environ.get("SNAKEMAKE_PROFILE", ""), *given.profile]
    for name in (*filter(None, names), *(str(place) for place in places if place.exists())):
        if (found := get_profile_dir(name)) is not None:
            yield found[1]
