"""The command line's parser: near misses are named, and help lists what can be chosen."""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vrp.config.study import load_study
from vrp.study.declarations import Stage


def load_extensions_for_help(words: Sequence[str]) -> None:
    """Load what a configuration names, so that `vrp metrics --config … --help` lists it."""
    if not {"-h", "--help"} & set(words):
        return
    given = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    given.add_argument("--config", type=Path)
    config = given.parse_known_args(words)[0].config
    if config is not None:
        load_study(config)


FOLDER = "FOLDER"
"""Stands for a path that comes first and makes a stage's command one on a study's folder."""


class CommandParser(argparse.ArgumentParser):
    """Names the nearest subcommand where one is misspelt; its help lists what can be chosen."""

    stage: Stage | None = None
    other_use: "tuple[str, CommandParser] | None" = None
    """What makes the command another one, an option or `FOLDER`, and the parser of that."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words; where the option of another use is among them, by its parser."""
        words = list(sys.argv[1:] if args is None else args)
        if self.other_use is not None:
            option, parser = self.other_use
            if _chosen(option, words):
                # Help comes first: the option alone lacks its value.
                return parser.parse_known_args(
                    ["--help"] if {"-h", "--help"} & set(words) else words, namespace
                )
        return super().parse_known_args(words, namespace)

    def format_help(self) -> str:
        """Return the help, with the names that a study may choose for the stage."""
        if self.stage is not None and self.stage.choices is not None:
            names = ", ".join(self.stage.choice_names())
            self.epilog = f"{self.stage.choices[0].capitalize()}: {names}."
        return super().format_help()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            close = difflib.get_close_matches(str(value), action.choices, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"see `{self.prog} --help`"
            raise argparse.ArgumentError(None, f"unknown {action.metavar} {value!r}; {hint}")
        super()._check_value(action, value)


def _chosen(option: str, words: Sequence[str]) -> bool:
    """Whether the words ask for a command's other use."""
    if option == FOLDER:
        return bool(words) and not words[0].startswith("-")
    return any(word.partition("=")[0] == option for word in words)


Run = Callable[[argparse.Namespace], None]


def add_command(commands: Any, name: str, summary: str, run: Run, details: str = "") -> Any:
    """Add a subcommand; return its parser.

    Args:
        commands: the subcommands.
        name: of the command.
        summary: one line for the list of commands.
        run: what carries it out.
        details: what its own help says after the summary.
    """
    description = f"{summary[0].upper()}{summary[1:]}. {details}".strip()
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run)
    return parser


def add_other_use(command: CommandParser, option: str, run: Run, details: str) -> CommandParser:
    """Give a command another use, which an option chooses, with options of its own.

    Args:
        command: parser of the command.
        option: such as `--apply`, which the caller adds to the parser that is returned; `FOLDER`
            where a path that comes first is what chooses.
        run: what carries it out.
        details: what `--help` says together with the option.
    """
    parser = CommandParser(prog=command.prog, description=details)
    parser.set_defaults(run=run)
    command.other_use = option, parser
    return parser


def config_option(parser: Any) -> None:
    """Add `--config`, the study's file."""
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML file")
