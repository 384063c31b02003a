"""The command line: one subcommand for each stage of the graph, and the tools beside them.

Importing this module must stay light: a stage's own imports (torch takes seconds) happen when the
stage is called.
"""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vrp.command_parser import CommandParser, load_extensions_for_help
from vrp.config.study import load_study
from vrp.errors import InputError
from vrp.logs import configure_logging
from vrp.planning.devices import DEFAULT_GPU, DEVICES
from vrp.study.command import path_options, run_gather, run_stage
from vrp.study.declarations import Stage
from vrp.study.graph import LISTS, STAGE, STAGES
from vrp.termination import Terminated, exit_at_once, install_sigterm_handler
from vrp.zoo import ZOO_FAMILIES

Run = Callable[[argparse.Namespace], None]


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
        # A folder that cannot be written, a full disk: the user's to mend, like bad input.
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
        "model can that be read? Each stage of the workflow is a subcommand; tools follow.",
    )
    parser.add_argument(
        "--version", action="version", version=f"vrp {importlib.metadata.version('vrp')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for stage in STAGES:
        if stage.per == "list":
            _add_gather(commands, stage)
        else:
            _add_stage(commands, stage)
    _add_fetch(commands)
    _add_status(commands)
    _add_score(commands)
    _add_planning(commands)
    _add_zoo(commands)
    return parser


def _command(commands: Any, name: str, summary: str, run: Run, details: str = "") -> Any:
    description = f"{summary[0].upper()}{summary[1:]}. {details}".strip()
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run)
    return parser


def _config_option(parser: Any) -> None:
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML file")


def _model_option(parser: Any) -> None:
    parser.add_argument("--model", required=True, help="name of a model in the config")


def _add_stage(commands: Any, stage: Stage) -> None:
    """A stage's options: config, model, shard, and the paths that it reads and writes."""
    details = f"{stage.details} Paths that are not given are those of the study's folder."
    parser = _command(
        commands, stage.command, stage.help, lambda options: _run_stage(stage, options), details
    )
    parser.stage = stage
    _config_option(parser)
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
    parser = _command(commands, stage.command, stage.help, _run_gather, stage.details)
    _config_option(parser)
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


def _add_fetch(commands: Any) -> None:
    parser = _command(
        commands, "fetch", "fetch the data and all models of a study, where there is a network",
        _fetch,
        "Fills the caches that fetch-data and fetch-model then find full: everything is resumed, "
        "checked, and left alone where it is there.",
    )  # fmt: skip
    _config_option(parser)


def _add_status(commands: Any) -> None:
    parser = _command(
        commands, "status", "show how far a study is, from its files alone", _status,
        "Models × stages: jobs done, running, failed, stopped and waiting, items a second, time "
        "left; then the last lines and the path of each failed job's log. It asks no scheduler "
        "and changes nothing.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="the study's YAML file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="where the workflow runs (here)"
    )


def _add_score(commands: Any) -> None:
    parser = _command(
        commands, "score", "score an answer file that any model made, for POPE, VQA or own data",
        _score,
        "An answer file is JSON or JSON lines with question_id and free text, as LLaVA, VCD, "
        "lmms-eval, VLMEvalKit and others write it; also a list within an object, an object that "
        "maps ids to texts, and any of these compressed with gzip. POPE: give a question file for "
        "each split and an answer file for each, in the same order, or one answer file for all; "
        "where its ids are others than POPE's, as LLaVA's are, give the question file that was "
        "asked, too. VQA v2: give the annotations, too. Whatever a row repeats of its question is "
        "compared; the output says what the pairing rests on. Accuracy, precision, recall, F1, "
        "yes-rate and parse rate stand side by side under the strict parser and the official one.",
    )  # fmt: skip
    for name, text in (
        ("--questions", "question files: POPE's splits, or one of VQA v2, TextVQA or own data"),
        ("--answers", "answer files (JSON or JSON lines)"),
    ):
        parser.add_argument(name, type=Path, nargs="+", required=True, help=text)
    parser.add_argument("--annotations", type=Path, help="VQA v2 annotations")
    parser.add_argument(
        "--answer-key", help="key that holds the answer's text, or output.text (found)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="VQA accuracy of a correct answer (0.5)"
    )
    parser.add_argument("--output", type=Path, help="write the scores to this JSON file, too")


def _add_planning(commands: Any) -> None:
    parser = _command(
        commands, "plan", "say what a study takes: hours, GPU memory, disk, shards", _plan,
        "From the models' dimensions and the study's counts alone: nothing is downloaded or run. "
        "With a finished study of the same models, a small one is enough, its measured rates take "
        "the place of published speeds.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="the study's YAML file")
    parser.add_argument(
        "--gpu", default=DEFAULT_GPU.name, choices=tuple(DEVICES), metavar="NAME",
        help=f"what models run on that want a GPU: {', '.join(DEVICES)} ({DEFAULT_GPU.name})",
    )  # fmt: skip
    parser.add_argument(
        "--measured", type=Path, nargs="+", default=[], metavar="PLACE",
        help="finished studies (results/<study>) or files of saved rates; what ran on a GPU ran "
        "on the one of --gpu",
    )  # fmt: skip
    parser.add_argument("--save-rates", type=Path, help="keep the measured rates in this file")
    parser.add_argument("--json", type=Path, help="write the plan to this JSON file, too")
    parser = _command(
        commands, "preflight", "check before the first job that nothing will be missing",
        _preflight,
        "One line a check: ok, failed or skipped, and what to do about it. Exits 1 if one failed. "
        "Run it where snakemake is started.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="the study's YAML file")
    parser.add_argument(
        "--profile", help="Snakemake's profile that the study is to run with, such as slurm"
    )


def _add_zoo(commands: Any) -> None:
    zoo = commands.add_parser("zoo", help="the embedded tiny models: train, evaluate")
    actions = zoo.add_subparsers(dest="action", required=True, metavar="action")
    parser = _command(
        actions, "train", "train one of the embedded models by the recipe that made it", _zoo_train
    )
    parser.add_argument("--family", required=True, choices=ZOO_FAMILIES, help="which one")
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints, log and model (build/zoo/FAMILY)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and questions (0)")
    parser.add_argument("--restart", action="store_true", help="do not resume what is there")
    parser = _command(
        actions, "evaluate", "measure the embedded models on scenes never trained on", _zoo_evaluate
    )
    parser.add_argument(
        "--family", nargs="*", default=[], choices=ZOO_FAMILIES, help="families; none means all"
    )
    parser.add_argument("--output", type=Path, help="write the figures to this JSON file, too")


def _fetch(options: argparse.Namespace) -> None:
    from vrp import fetch_all

    fetch_all.run(load_study(options.config))


def _status(options: argparse.Namespace) -> None:
    from vrp.study import status

    found = status.run(load_study(options.config), directory=options.directory)
    print(found.as_json() if options.json else found.as_text())


def _score(options: argparse.Namespace) -> None:
    from vrp.data import score_report as score

    print(
        score.run(
            questions=options.questions,
            answers=options.answers,
            annotations=options.annotations,
            answer_key=options.answer_key,
            threshold=options.threshold,
            output=options.output,
        )
    )


def _plan(options: argparse.Namespace) -> None:
    from vrp.planning.measured_rates import read_measured
    from vrp.planning.plan import make_plan
    from vrp.planning.plan_text import plan_json, plan_text
    from vrp.planning.question_checks import check_questions
    from vrp.tables.atomic_files import write_text

    gpu = DEVICES[options.gpu]
    study = load_study(options.config)
    known = read_measured(options.measured, gpu=gpu)
    plan = make_plan(study, device=gpu, calibration=known, measure=True)
    plan = plan._replace(notes=(*plan.notes, *check_questions(study)))
    if options.save_rates:
        write_text(options.save_rates, known.as_json())
    if options.json:
        write_text(options.json, plan_json(plan))
    print(plan_text(plan))


def _preflight(options: argparse.Namespace) -> None:
    from vrp.planning.preflight import preflight

    checks = preflight(options.config, profile=options.profile)
    print("\n".join(check.line for check in checks))
    if any(check.failed for check in checks):
        raise SystemExit(1)


def _zoo_train(options: argparse.Namespace) -> None:
    import torch

    from vrp.zoo import training

    torch.set_num_threads(1)  # as the shipped weights were trained: sums in one order
    output = options.output or Path("build", "zoo", options.family)
    training.train(options.family, output, seed=options.seed, resume=not options.restart)


def _zoo_evaluate(options: argparse.Namespace) -> None:
    from vrp.zoo import evaluate

    print(evaluate.evaluate(options.family or None, output=options.output))
