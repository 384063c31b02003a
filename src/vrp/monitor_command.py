"""`vrp monitor`: fit, score, check, push.

Importing this module must stay light: a tool's own imports happen when it is called.
"""

import argparse
from pathlib import Path
from typing import Any

from vrp.command_parser import add_command

_ALPHAS = "0.02 0.05 0.1 0.2"


def add_monitor(commands: Any) -> None:
    """Add the subcommand and its actions."""
    text = "a monitor for one model: accept an answer, or ask a person"
    parser = commands.add_parser("monitor", help=text, description=f"{text.capitalize()}.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    _add_fit(actions)
    _add_score(actions)
    _add_check(actions)
    _add_push(actions)


def _add_fit(actions: Any) -> None:
    parser = add_command(
        actions, "fit", "fit a monitor to one model of a finished study", _fit,
        "Writes a small folder: tensors, a card (JSON) and a model card. With probability 1 − "
        "delta, thresholds keep the risk of accepted answers at or below alpha; they are found on "
        "images that the predictor was not chosen on.",
    )  # fmt: skip
    parser.add_argument("study", type=Path, help="the study's folder, such as results/demo")
    parser.add_argument("--model", required=True, help="the model's name in the study")
    parser.add_argument("--output", type=Path, help="folder to write (monitors/STUDY-MODEL)")
    parser.add_argument(
        "--predictor", help="token_confidence, probe or fusion (token_confidence, unless another "
        "is significantly better on the images of --fit-share)",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=float, nargs="+", metavar="A",
        help=f"maximum shares of wrong answers among those accepted ({_ALPHAS})",
    )  # fmt: skip
    parser.add_argument("--delta", type=float, help="probability that a guarantee fails (0.1)")
    parser.add_argument(
        "--fit-share", type=float, metavar="S",
        help="share of the images on which a predictor is chosen and fitted (0.3)",
    )  # fmt: skip


def _add_score(actions: Any) -> None:
    parser = add_command(
        actions, "score", "answer a file of questions and decide which answers to accept", _score,
        "Questions are JSON lines or CSV with image and question, and optionally question_id, "
        "task, group and answers. The output has answer, probability, score, decision and, if "
        "reference answers are given, correct.",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="the monitor's folder")
    parser.add_argument("--input", type=Path, required=True, help="questions (.jsonl or .csv)")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    _add_run_options(parser)


def _add_check(actions: Any) -> None:
    parser = add_command(
        actions, "check", "test on new labelled items whether the guarantee still holds",
        _check,
        "Prints coverage, risk, calibration and drift of the scores; exits with status 1 if a flag "
        "is raised. The file holds either questions with answers, which the model is asked (give "
        "--images), or score and correct, such as the output of `vrp monitor score`.",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="the monitor's folder")
    parser.add_argument("labelled", type=Path, help="labelled items (.jsonl or .csv)")
    parser.add_argument("--images", type=Path, help="folder of the images")
    parser.add_argument("--json", type=Path, help="also write the numbers to this JSON file")
    _add_run_options(parser)


def _add_push(actions: Any) -> None:
    parser = add_command(
        actions, "push", "upload a monitor's folder to the hub, with its model card", _push
    )
    parser.add_argument("folder", type=Path, help="the monitor's folder")
    parser.add_argument("repository", help="owner and name; created if it does not exist")
    parser.add_argument("--public", action="store_true", help="make a new repository public")


def _add_run_options(parser: Any) -> None:
    parser.add_argument(
        "--alpha", type=float, default=0.1,
        help="maximum share of wrong answers among those accepted; one of the card's (0.1)",
    )  # fmt: skip
    parser.add_argument("--checkpoint", help="the model's checkpoint, if it has moved")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 … (auto)")
    parser.add_argument(
        "--batch-size", type=int, default=32, help="questions per forward pass (32)"
    )


def _fit(options: argparse.Namespace) -> None:
    from vrp.monitor.fitting import FitOptions
    from vrp.monitor.monitor import ReliabilityMonitor
    from vrp.tables.atomic_files import require_writable

    given = {
        "predictor": options.predictor, "delta": options.delta, "fit_share": options.fit_share,
        "alphas": None if options.alpha is None else tuple(options.alpha),
    }  # fmt: skip
    chosen = FitOptions(**{name: value for name, value in given.items() if value is not None})
    study = options.study.resolve().name
    folder = options.output or Path("monitors", f"{study}-{options.model}")
    require_writable(folder / "card.json")
    monitor = ReliabilityMonitor.fit(options.study, options.model, chosen)
    monitor.save(folder)
    print(monitor.summary)
    print(f"written to {folder}")


def _score(options: argparse.Namespace) -> None:
    from vrp.monitor import scoring

    print(
        scoring.run(
            options.folder, questions=options.input, images=options.images, output=options.output,
            **_run_options(options),
        )
    )  # fmt: skip


def _check(options: argparse.Namespace) -> None:
    from vrp.monitor import checking
    from vrp.tables.atomic_files import write_text

    found = checking.run(
        options.folder, options.labelled, images=options.images, **_run_options(options)
    )
    if options.json:
        write_text(options.json, found.as_json())
    print(found.as_text())
    if found.flagged:
        raise SystemExit(1)


def _run_options(options: argparse.Namespace) -> dict[str, Any]:
    names = ("alpha", "checkpoint", "device", "batch_size")
    return {name: getattr(options, name) for name in names}


def _push(options: argparse.Namespace) -> None:
    from vrp.monitor.monitor import ReliabilityMonitor

    monitor = ReliabilityMonitor.load(options.folder)
    print(monitor.push_to_hub(options.repository, private=not options.public))
