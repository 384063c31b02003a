"""What each command of `vrp` says of itself."""

import argparse
import os
from collections.abc import Iterator

from vrp.cli import build_parser

_HEAD = """# Commands

The output of `vrp <command> --help`. Stages come first; each has [a page of its own](stages.md).
Paths of tables default to those of the study's folder.
"""


def command_page() -> str:
    """Return the page."""
    os.environ["COLUMNS"] = "96"  # argparse breaks lines at the terminal's width
    return "\n".join([_HEAD, *_sections(build_parser(), "##")])


def _sections(parser: argparse.ArgumentParser, level: str, before: str = "") -> Iterator[str]:
    for last, command in subcommands(parser).items():
        name = f"{before}{last}"
        yield f"{level} {name}\n\n```text\n{command.format_help().rstrip()}\n```\n"
        if getattr(command, "other_use", None):
            option, other = command.other_use
            yield f"{level}# {name} {option}\n\n```text\n{other.format_help().rstrip()}\n```\n"
        yield from _sections(command, f"{level}#", f"{name} ")


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the subcommands of a parser by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
