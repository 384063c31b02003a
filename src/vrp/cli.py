"""The command line: one subcommand for each stage of the graph, and the tools beside them.

Importing this module must stay light: a stage's own imports (torch takes seconds) happen when the
stage is called.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vrp import __version__
from vrp.command_parser import (
    CommandParser,
    add_command,
    config_option,
    load_extensions_for_help,
)
from vrp.config.study import load_study
from vrp.errors import InputError
from vrp.logs import configure_logging
from vrp.study.command import path_options, run_gather, run_stage
from vrp.study.declarations import Stage
from vrp.study.graph import LISTS, STAGE, STAGES
from vrp.termination import Terminated, exit_at_once, install_sigterm_handler
from vrp.tools import add_tools


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand; exit 2 with one line on bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = "vrp"
    configure_logging()
    install_sigterm_handler()
    try:
        load_extensions_for_help(words)
        options = build_parser().parse_args(words)
        command = f"vrp {options.command}"
        options.run(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # Whoever read the output has gone, as `head` does: no more is wanted, and Python's own
        # last flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        # A folder that cannot be written, a full disk: the user's to fix, like bad input.
        if error.strerror is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        hint = "check permissions and free space"
        print(f"{command}: {place}{error.strerror}; {hint}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Terminated as told:
        exit_at_once(told)


def build_parser() -> argparse.ArgumentParser:
    """All subcommands and their options."""
    parser = CommandParser(
        prog="vrp",
        description="When can a vision-language model's answer be trusted, and where in the "
        "model can this be read? Each stage of the workflow is a subcommand; the tools follow.",
    )
    parser.add_argument("--version", action="version", version=f"vrp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for stage in STAGES:
        if stage.per == "list":
            _add_gather(commands, stage)
        else:
            _add_stage(commands, stage)
    add_tools(commands)
    return parser


def _model_option(parser: Any) -> None:
    parser.add_argument("--model", required=True, help="name of a model in the config")


def _add_stage(commands: Any, stage: Stage) -> None:
    """A stage's options: config, model, shard, and the paths that it reads and writes."""
    details = f"{stage.details} Paths default to those of the study's folder."
    parser = add_command(
        commands, stage.command, stage.help, lambda options: _run_stage(stage, options), details
    )
    parser.stage = stage
    config_option(parser)
    if stage.per != "study":
        _model_option(parser)
    if stage.per == "shard":
        parser.add_argument(
            "--shard", type=int, default=0, help="which shard to run, from 0 (the default)"
        )
    for option in path_options(stage):
        parser.add_argument(
            option.artifact.option, dest=f"path {option.artifact.name}", type=Path,
            nargs="*" if option.several else 1, metavar="PATH", help=option.help,
        )  # fmt: skip


def _run_stage(stage: Stage, options: argparse.Namespace) -> None:
    given = {
        name.removeprefix("path "): paths
        for name, paths in vars(options).items()
        if name.startswith("path ") and paths is not None
    }
    run_stage(
        stage,
        load_study(options.config),
        model=getattr(options, "model", ""),
        shard=getattr(options, "shard", 0),
        files=given,
    )


def _add_gather(commands: Any, stage: Stage) -> None:
    parser = add_command(commands, stage.command, stage.help, _run_gather, stage.details)
    config_option(parser)
    _model_option(parser)
    parser.add_argument(
        "--stage", required=True, choices=tuple(LISTS), help="the stage that made the shards"
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="the study's folder, such as results/demo"
    )
    parser.add_argument(
        "--items", type=Path, nargs="*", default=[],
        help="items tables that must be equal (extraction_from)",
    )  # fmt: skip
    parser.add_argument("--list", type=Path, required=True, help="the list to write (JSON)")


def _run_gather(options: argparse.Namespace) -> None:
    run_gather(
        load_study(options.config),
        STAGE[options.stage],
        model=options.model,
        folder=options.folder,
        items=options.items,
        output=options.list,
    )
