"""The tools beside the stages: subcommands that plan, fetch, check, score and simulate.

Importing this module must stay light: a tool's own imports happen when it is called.
"""

import argparse
from pathlib import Path
from typing import Any

from vrp.command_parser import FOLDER, add_command, add_other_use, config_option
from vrp.config.study import load_study
from vrp.planning.devices import DEFAULT_GPU, DEVICES
from vrp.zoo import ZOO_FAMILIES


def add_tools(commands: Any) -> None:
    """Add the subcommands that are no stage."""
    _add_fetch(commands)
    _add_status(commands)
    _add_score(commands)
    _add_planning(commands)
    _add_simulate(commands)
    _add_compare(commands)
    _add_apply(commands)
    _add_report_of_folder(commands)
    _add_figures_of_folder(commands)
    _add_explorer_of_folder(commands)
    _add_zoo(commands)


def _add_fetch(commands: Any) -> None:
    parser = add_command(
        commands, "fetch", "fetch the data and all models of a study, where there is a network",
        _fetch,
        "Fills the caches that fetch-data and fetch-model then find full: everything is resumed, "
        "checked, and left alone where it is there.",
    )  # fmt: skip
    config_option(parser)


def _add_status(commands: Any) -> None:
    parser = add_command(
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
    parser = add_command(
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
    parser = add_command(
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
    parser = add_command(
        commands, "preflight", "check before the first job that nothing will be missing",
        _preflight,
        "One line a check: ok, failed or skipped, and what to do about it. Exits 1 if one failed. "
        "Run it where snakemake is started.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="the study's YAML file")
    parser.add_argument(
        "--profile", help="Snakemake's profile that the study is to run with, such as slurm"
    )


def _add_simulate(commands: Any) -> None:
    parser = add_command(
        commands, "simulate", "say what a study of these counts could find, before it is run",
        _simulate,
        "Draws studies of a configuration's counts with a known truth and judges them as the "
        "report does: how often each verdict falls, how often intervals hold the truth, and the "
        "smallest AUROC and effect on accuracy that the counts can show with 80% power. No data "
        "and no model are needed.",
    )  # fmt: skip
    config_option(parser)
    parser.add_argument(
        "--wrong", type=float, nargs="+", metavar="SHARE",
        help="share of wrong answers: one, or one for each split of the study (0.3)",
    )  # fmt: skip
    parser.add_argument(
        "--auroc", type=float, nargs="+", default=[0.5, 0.55, 0.6, 0.7], metavar="A",
        help="true AUROCs of one signal beside noise (0.5 0.55 0.6 0.7)",
    )  # fmt: skip
    parser.add_argument("--signals", type=int, help="signals that are judged together (13)")
    parser.add_argument("--studies", type=int, default=200, help="studies of each truth (200)")
    parser.add_argument(
        "--questions-per-image", type=int, default=1, metavar="N",
        help="questions that share an image; answers on one image hang together (1)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the numbers to this JSON file, too")


def _simulate(options: argparse.Namespace) -> None:
    from vrp.planning.simulation import N_SIGNALS, WRONG, Design, as_json, as_text, simulate
    from vrp.tables.atomic_files import write_text

    study = load_study(options.config)
    design = Design.of(study, options.wrong or [WRONG], per_image=options.questions_per_image)
    n_signals = N_SIGNALS if options.signals is None else options.signals
    found = simulate(
        design, options.auroc, n_signals=n_signals, n_studies=options.studies,
        margin=study.metrics.auroc_margin,
    )  # fmt: skip
    if options.json:
        write_text(options.json, as_json(design, found))
    print(as_text(design, found))


def _add_compare(commands: Any) -> None:
    parser = add_command(
        commands, "compare", "compare two models, or one model in two studies, item by item",
        _compare,
        "Both are folders of one model of a study whose metrics have run. On the questions that "
        "both answered: accuracy by task, and the AUROC within strata of every signal and probe "
        "that both have; B minus A, paired by item, clustered by image, corrected after Holm, with "
        "the smallest difference that could have been found.",
    )  # fmt: skip
    parser.add_argument("first", type=Path, metavar="A", help="such as results/demo/llava")
    parser.add_argument("second", type=Path, metavar="B", help="such as results/demo/qwen2_vl")
    parser.add_argument(
        "--margin", type=float, default=2.0, metavar="PP",
        help="differences of accuracy within ± this count as none, percentage points (2)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the numbers to this JSON file, too")
    parser.add_argument("--figure", type=Path, help="draw them into this file (.svg, .pdf or .png)")


def _compare(options: argparse.Namespace) -> None:
    from vrp.estimates.paired_comparison import compare, read_side
    from vrp.report.paired_comparison import as_json, as_text
    from vrp.tables.atomic_files import write_text

    found = compare(read_side(options.first), read_side(options.second), margin_pp=options.margin)
    if options.json:
        write_text(options.json, as_json(found))
    if options.figure:
        from vrp.plots.paired_comparison import draw

        draw(found, options.figure)
    print(as_text(found))


def _add_apply(commands: Any) -> None:
    parser = add_other_use(
        commands.choices["probes"], "--apply", _apply,
        "Apply a saved probe to the hidden states of another study of the same model. Prints the "
        "AUROC within strata and in each stratum, clustered by image, beside that of the study's "
        "own best linear probe on the same items. Items on images that the probe was fitted on are "
        "left out and counted.",
    )  # fmt: skip
    parser.add_argument(
        "--apply", type=Path, required=True, metavar="FILE",
        help="the probe, such as results/demo/llava/probe.safetensors",
    )  # fmt: skip
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER",
        help="the model's folder of a finished study, such as results/other/llava",
    )  # fmt: skip
    parser.add_argument(
        "--other-weights", action="store_true",
        help="apply it although the model's weights are others, such as fine-tuned ones",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the numbers to this JSON file, too")
    parser.add_argument(
        "--scores", type=Path,
        help="write item_id, score (log-odds) and correct of each item to this Parquet file",
    )  # fmt: skip


def _apply(options: argparse.Namespace) -> None:
    from vrp.estimates.applied_probe import apply_probe, read_target, write_scores
    from vrp.report.applied_probe import as_json, as_text
    from vrp.tables.atomic_files import write_text

    target = read_target(options.to)
    found, scores = apply_probe(options.apply, target, other_weights=options.other_weights)
    if options.scores:
        write_scores(options.scores, scores, found)
    if options.json:
        write_text(options.json, as_json(found))
    print(as_text(found))


def _add_report_of_folder(commands: Any) -> None:
    parser = add_other_use(
        commands.choices["report"], FOLDER, _report_of_folder,
        "Write the report of a study's folder, and print its decision. Of a study that is not "
        "whole, what is there is reported and what is missing is named.",
    )  # fmt: skip
    parser.add_argument(
        "folder", type=Path, help="the results folder of a study, such as results/demo"
    )


def _report_of_folder(options: argparse.Namespace) -> None:
    from vrp.report.in_short import report_in_short
    from vrp.study.graph import STAGE
    from vrp.study.unfinished import run_in_folder

    run_in_folder(STAGE["report"], options.folder)
    print("\n".join(report_in_short(options.folder)))


def _add_figures_of_folder(commands: Any) -> None:
    parser = add_other_use(
        commands.choices["figures"], FOLDER, _figures_of_folder,
        "Draw figures of a study's folder: as wide as a page's text (6.9 inches, type of 8 points "
        "and more) or as a column of it (3.25 inches, 6.5 points and more). They are written into "
        "the current folder, or another, never among the study's own, and their paths printed.",
    )  # fmt: skip
    parser.add_argument(
        "folder", type=Path, help="the results folder of a study, such as results/demo"
    )
    parser.add_argument(
        "--only", action="extend", nargs="+", default=[], metavar="FIGURE",
        help="such as auroc_by_signal; may be given several times (all figures)",
    )  # fmt: skip
    parser.add_argument(
        "--format", action="extend", nargs="+", choices=("svg", "png", "pdf", "csv"),
        help="csv: the numbers that a figure shows (pdf)",
    )  # fmt: skip
    parser.add_argument("--width", choices=("page", "column"), default="page", help="(page)")
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="FOLDER", help="where to write (here)"
    )
    parser.add_argument("--dpi", type=int, help="dots an inch of PNG files (the study's own)")


def _figures_of_folder(options: argparse.Namespace) -> None:
    from vrp.plots.figure_files import draw_study_folder

    written = draw_study_folder(
        options.folder, options.output, names=options.only, formats=options.format or ("pdf",),
        width=options.width, dpi=options.dpi,
    )  # fmt: skip
    print("\n".join(map(str, written)))


def _add_explorer_of_folder(commands: Any) -> None:
    parser = add_other_use(
        commands.choices["explorer"], FOLDER, _explorer_of_folder,
        "Write the explorer of a study's folder, whole or not, and print where it is.",
    )  # fmt: skip
    parser.add_argument(
        "folder", type=Path, help="the results folder of a study, such as results/demo"
    )


def _explorer_of_folder(options: argparse.Namespace) -> None:
    from vrp.study.graph import EXPLORER, STAGE
    from vrp.study.unfinished import run_in_folder

    run_in_folder(STAGE["explorer"], options.folder)
    print(options.folder / EXPLORER.path)


def _add_zoo(commands: Any) -> None:
    zoo = commands.add_parser("zoo", help="the embedded tiny models: train, evaluate")
    actions = zoo.add_subparsers(dest="action", required=True, metavar="action")
    parser = add_command(
        actions, "train", "train one of the embedded models by the recipe that made it", _zoo_train
    )
    parser.add_argument("--family", required=True, choices=ZOO_FAMILIES, help="which one")
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints, log and model (build/zoo/FAMILY)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and questions (0)")
    parser.add_argument("--restart", action="store_true", help="do not resume what is there")
    parser = add_command(
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
    from vrp.planning.simulation import resolution_note
    from vrp.tables.atomic_files import write_text

    gpu = DEVICES[options.gpu]
    study = load_study(options.config)
    known = read_measured(options.measured, gpu=gpu)
    plan = make_plan(study, device=gpu, calibration=known, measure=True)
    plan = plan._replace(notes=(*plan.notes, *check_questions(study), resolution_note(study)))
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
