"""The tools beside the stages: subcommands that plan, fetch, check, score and simulate.

Importing this module must stay light: a tool's own imports happen when it is called.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrp.command_parser import FOLDER, add_command, add_other_use, config_option
from vrp.config.study import load_study
from vrp.errors import InputError
from vrp.monitor_command import add_monitor
from vrp.planning.devices import DEFAULT_GPU, DEVICES
from vrp.zoo import ZOO_FAMILIES

if TYPE_CHECKING:
    from vrp.config.margins import EquivalenceMargins


def add_tools(commands: Any) -> None:
    """Add the subcommands that are no stage."""
    _add_init(commands)
    _add_fetch(commands)
    _add_status(commands)
    _add_score(commands)
    _add_planning(commands)
    _add_simulate(commands)
    _add_compare(commands)
    _add_judge(commands)
    _add_apply(commands)
    _add_report_of_folder(commands)
    _add_figures_of_folder(commands)
    _add_explorer_of_folder(commands)
    _add_zoo(commands)
    add_monitor(commands)


def _add_init(commands: Any) -> None:
    parser = add_command(
        commands, "init", "make a folder for a study of your own", _init,
        "Writes a configuration that is ready to run, a Snakefile that uses the package's "
        "workflow, profiles and a README. The study gets the name of the folder.",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="a new or empty folder, such as my-study")


def _init(options: argparse.Namespace) -> None:
    from vrp.workflow.new_study_folder import make_study_folder

    for path in make_study_folder(options.folder):
        print(path)
    print(f"Next: cd {options.folder} && snakemake --cores 2")


def _add_fetch(commands: Any) -> None:
    parser = add_command(
        commands, "fetch", "fetch the data and all models of a study (needs a network)",
        _fetch,
        "Fills the caches that fetch-data and fetch-model use. Downloads are resumed and checked; "
        "files that are already there are not fetched again.",
    )  # fmt: skip
    config_option(parser)


def _add_status(commands: Any) -> None:
    parser = add_command(
        commands, "status", "show the progress of a study", _status,
        "Prints for each model and stage the jobs done, running, failed, stopped and waiting, "
        "items per second and the time left; then the last lines and the path of each failed job's "
        "log. It reads only the study's files, asks no scheduler and changes nothing.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="the study's YAML file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="where the workflow runs (here)"
    )


def _add_score(commands: Any) -> None:
    parser = add_command(
        commands, "score", "score an answer file of any model, for POPE, VQA or own data",
        _score,
        "An answer file is JSON or JSON lines with question_id and free text, as written by LLaVA, "
        "VCD, lmms-eval, VLMEvalKit and others; it may also be a list within an object, an object "
        "that maps ids to texts, or any of these compressed with gzip. POPE: give a question file "
        "for each split and an answer file for each, in the same order, or one answer file for "
        "all; if its ids are not POPE's, as in LLaVA's file, also give the question file that was "
        "asked. VQA v2: also give the annotations. If a row repeats parts of its question, these "
        "are compared; the output states how answers and questions were paired. Accuracy, "
        "precision, recall, F1, yes-rate and parse rate are given under both the strict and the "
        "official parser.",
    )  # fmt: skip
    for name, text in (
        ("--questions", "question files: POPE's splits, or one of VQA v2, TextVQA or own data"),
        ("--answers", "answer files (JSON or JSON lines)"),
    ):
        parser.add_argument(name, type=Path, nargs="+", required=True, help=text)
    parser.add_argument("--annotations", type=Path, help="VQA v2 annotations")
    parser.add_argument(
        "--answer-key", help="key of the answer's text, such as output.text (found automatically)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="least VQA accuracy of a right answer (0.5)"
    )
    parser.add_argument("--output", type=Path, help="also write the scores to this JSON file")


def _add_planning(commands: Any) -> None:
    parser = add_command(
        commands, "plan", "estimate what a study takes: hours, GPU memory, disk, shards", _plan,
        "The estimate uses only the models' dimensions and the study's counts: nothing is "
        "downloaded or run. If you name a finished study of the same models (a small one is "
        "enough), its measured rates replace published speeds.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="the study's YAML file")
    parser.add_argument(
        "--gpu", default=DEFAULT_GPU.name, choices=tuple(DEVICES), metavar="NAME",
        help=f"GPU that the models run on: {', '.join(DEVICES)} ({DEFAULT_GPU.name})",
    )  # fmt: skip
    parser.add_argument(
        "--measured", type=Path, nargs="+", default=[], metavar="PLACE",
        help="finished studies (results/<study>) or files of saved rates; GPU jobs are taken to "
        "have run on the GPU of --gpu",
    )  # fmt: skip
    parser.add_argument("--save-rates", type=Path, help="save the measured rates to this file")
    parser.add_argument("--json", type=Path, help="also write the plan to this JSON file")
    parser = add_command(
        commands, "preflight", "check that a study has everything it needs",
        _preflight,
        "Prints one line per check: ok, failed or skipped, and how to fix it. Exits with status 1 "
        "if a check failed. Run it on the machine where snakemake is started.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="the study's YAML file")
    parser.add_argument(
        "--profile", help="Snakemake profile that the study will run with, such as slurm"
    )


def _add_simulate(commands: Any) -> None:
    parser = add_command(
        commands, "simulate", "estimate the power of a study before it is run",
        _simulate,
        "Simulates studies of a configuration's size with a known truth and judges them as the "
        "report does. Prints how often each verdict occurs if all signals are noise, if one is "
        "not, and if one knows only the emitted answer; how often an intervention's effect is "
        "found, or shown to be none; the coverage of intervals; and the smallest AUROC and effect "
        "that can be detected with 80% power. Splits share images as in the configuration's data. "
        "Neither data nor a model is needed.",
    )  # fmt: skip
    config_option(parser)
    for name, kind, text, metavar in (
        ("--wrong", float, "share of wrong answers: one, or one for each split (0.3)", "SHARE"),
        ("--answers", int, "different answers: one number, or one for each split (2)", "N"),
        ("--auroc", float, "true AUROCs of one signal among noise (0.55 0.6 0.7)", "A"),
        ("--changed", float, "shares of answers that interventions change (0.05 0.2)", "SHARE"),
        ("--effect", float, "true effects on accuracy in percentage points, besides 0 (2 5)", "PP"),
    ):
        parser.add_argument(name, type=kind, nargs="+", help=text, metavar=metavar)
    for name, kind, text, metavar in (
        ("--answer-odds", float, "ratio of the odds of being right for the most and the least "
         "reliable answer (2)", "R"),
        ("--signals", int, "signals that are judged together (the number of attention signals)",
         "N"),
        ("--correlation", float, "correlation of two signals (0.32, as on the embedded scenes); "
         "independent noise, the worst case, is also simulated", "R"),
        ("--studies", int, "studies of each truth (200)", "N"),
        ("--questions-per-image", int, "questions that share an image, over all splits (from the "
         "configuration's data)", "N"),
    ):  # fmt: skip
        parser.add_argument(name, type=kind, help=text, metavar=metavar)
    parser.add_argument("--json", type=Path, help="also write the numbers to this JSON file")


def _simulate(options: argparse.Namespace) -> None:
    from vrp.config.margins import EquivalenceMargins
    from vrp.planning.simulated_studies import Design
    from vrp.planning.simulation import AUROCS, simulate
    from vrp.planning.simulation_text import as_json, as_text
    from vrp.tables.atomic_files import write_text

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    study = load_study(options.config)
    design = Design.of(study, **given(
        wrong=options.wrong, answers=options.answers, answer_odds=options.answer_odds,
        per_image=options.questions_per_image,
    ))  # fmt: skip
    margins = EquivalenceMargins(
        auroc=study.metrics.auroc_margin, effect_pp=study.effects.equivalence_pp
    )
    found = simulate(design, options.auroc or AUROCS, margins=margins, **given(
        n_signals=options.signals, correlation=options.correlation, n_studies=options.studies,
        changed=options.changed, effects=options.effect,
    ))  # fmt: skip
    if options.json:
        write_text(options.json, as_json(design, found))
    print(as_text(design, found))


def _add_compare(commands: Any) -> None:
    parser = add_command(
        commands, "compare", "compare two models, or one model in two studies, item by item",
        _compare,
        "A and B are model folders of studies whose metrics have run. Compares, on the questions "
        "that both answered, accuracy by task and the AUROC within strata of every signal and "
        "probe that both have. Differences are B minus A, paired by item, clustered by image and "
        "Holm-corrected, with the smallest detectable difference. Models are equivalent if the "
        "difference is within a margin, and identical if no answer or score differs.",
    )  # fmt: skip
    parser.add_argument("first", type=Path, metavar="A", help="such as results/demo/llava")
    parser.add_argument("second", type=Path, metavar="B", help="such as results/demo/qwen2_vl")
    parser.add_argument(
        "--margin", type=float, metavar="PP",
        help="equivalence margin of accuracy in percentage points, below 100 (the studies' "
        "effects.equivalence_pp)",
    )  # fmt: skip
    parser.add_argument(
        "--auroc-margin", type=float, metavar="D",
        help="equivalence margin of AUROC, below 0.5 (the studies' metrics.auroc_margin)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="also write the numbers to this JSON file")
    parser.add_argument("--figure", type=Path, help="draw them into this file (.svg, .pdf or .png)")


def _compare(options: argparse.Namespace) -> None:
    from vrp.estimates.paired_comparison import compare, read_side
    from vrp.report.paired_comparison import as_json, as_text
    from vrp.tables.atomic_files import write_text

    _check_margin("--margin", options.margin, limit=100)
    _check_margin("--auroc-margin", options.auroc_margin, limit=0.5)
    folders = options.first, options.second
    first, second = (read_side(folder) for folder in folders)
    margins = _narrower_margins(folder.parent for folder in folders)
    found = compare(
        first, second,
        margin_pp=options.margin or margins.effect_pp,
        margin_auroc=options.auroc_margin or margins.auroc,
    )  # fmt: skip
    if options.json:
        write_text(options.json, as_json(found))
    if options.figure:
        from vrp.plots.paired_comparison import draw

        draw(found, options.figure)
    print(as_text(found))


def _check_margin(option: str, margin: float | None, *, limit: float) -> None:
    """Refuse a margin within which any difference at all would lie."""
    if margin is not None and not 0 < margin < limit:
        raise InputError(f"{option} must be above 0 and below {limit:g} (found {margin:g})")


def _narrower_margins(studies: Iterable[Path]) -> "EquivalenceMargins":
    """Margins of the studies in these folders, of each the narrowest; the defaults where none."""
    from vrp.config.margins import EquivalenceMargins
    from vrp.study.results import margins_of
    from vrp.study.study_folder import SNAPSHOT, read_snapshot

    found = [margins_of(read_snapshot(one)) for one in studies if (one / SNAPSHOT).is_file()]
    return EquivalenceMargins(*map(min, zip(*(found or [EquivalenceMargins()]), strict=True)))


def _add_judge(commands: Any) -> None:
    parser = add_command(
        commands, "judge", "evaluate the confidences of any model or service", _judge,
        "The file is JSON lines or CSV with one answer per row: id, correct (true, false, 0 or 1), "
        "and a score, or several under scores; optionally also the image, a stratum such as the "
        "task, and the answer's text. Prints for every score the AUROC within strata with a "
        "verdict and guards, accuracy without the least confident answers, calibration, and "
        "thresholds above which, with a guarantee, at most a given share of the answers is wrong. "
        "Scores are compared in pairs. Intervals are clustered by image.",
    )  # fmt: skip
    parser.add_argument("file", type=Path, metavar="FILE", help="the answers, one per row")
    parser.add_argument(
        "--scores", nargs="+", default=[], metavar="NAME",
        help="columns that hold confidences (score, or all of scores)",
    )  # fmt: skip
    parser.add_argument(
        "--low-is-sure", nargs="+", default=[], metavar="NAME",
        help="scores where a smaller value means more confidence, such as entropies",
    )  # fmt: skip
    for option, what in (
        ("id", "a unique name for each row (id)"),
        ("correct", "whether the answer is right (correct)"),
        ("group", "the image, or anything else that rows share (group, image or image_id)"),
        ("stratum", "the task or kind of question, within which answers are compared (stratum, "
         "task)"),
        ("answer", "the answer's text (answer)"),
    ):  # fmt: skip
        parser.add_argument(f"--{option}", metavar="COLUMN", help=f"column that holds {what}")
    parser.add_argument(
        "--alpha", type=float, nargs="+", default=[0.05, 0.1, 0.2], metavar="SHARE",
        help="maximum shares of wrong answers among those accepted (0.05 0.1 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--delta", type=float, default=0.1, metavar="CHANCE",
        help="probability that such a guarantee fails (0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="also write report.html, judge.json and the numbers as CSV to this folder",
    )  # fmt: skip


def _judge(options: argparse.Namespace) -> None:
    from vrp.data.confidence_file import USUAL_NAMES, read_confidences
    from vrp.estimates.judged_confidences import judge_confidences
    from vrp.report.judged_confidences import as_text
    from vrp.report.judged_folder import write_folder

    chosen = {what: getattr(options, what) for what in USUAL_NAMES if getattr(options, what)}
    file = read_confidences(
        options.file, scores=options.scores, columns=chosen, low_is_sure=options.low_is_sure
    )
    found = judge_confidences(file, alphas=sorted(set(options.alpha)), delta=options.delta)
    print(as_text(found))
    if options.output:
        print(f"Written: {write_folder(found, options.output)}")


def _add_apply(commands: Any) -> None:
    parser = add_other_use(
        commands.choices["probes"], "--apply", _apply,
        "Apply a saved probe to the hidden states of another study of the same model. Prints the "
        "AUROC within strata and in each stratum, clustered by image, and that of the study's own "
        "best linear probe on the same items. Items on images that the probe was fitted on are "
        "excluded and counted.",
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
        help="apply it even if the model has other weights, such as fine-tuned ones",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="also write the numbers to this JSON file")
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
        "Write the report of a study's folder and print its decision. If the study is incomplete, "
        "the report covers the existing results and names the missing ones.",
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
        "Draw figures from a study's folder, as wide as a page (6.9 inches, type of at least 8 "
        "points) or a column (3.25 inches, at least 6.5 points). They are written to the current "
        "folder or another, never to the study's own figures, and their paths are printed.",
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
    parser.add_argument("--dpi", type=int, help="resolution of PNG files (the study's)")


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
        "Write the explorer of a study's folder, complete or not, and print its path.",
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
        actions,
        "train",
        "train one of the embedded models with the recipe that made it",
        _zoo_train,
    )
    parser.add_argument(
        "--family", required=True, choices=ZOO_FAMILIES, help="which model to train"
    )
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints, log and model (build/zoo/FAMILY)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and questions (0)")
    parser.add_argument("--restart", action="store_true", help="start anew instead of resuming")
    parser = add_command(
        actions, "evaluate", "measure the embedded models on held-out scenes", _zoo_evaluate
    )
    parser.add_argument(
        "--family", nargs="*", default=[], choices=ZOO_FAMILIES, help="families; none means all"
    )
    parser.add_argument("--output", type=Path, help="also write the numbers to this JSON file")


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
    from vrp.planning.study_checks import check_counts, require_images
    from vrp.tables.atomic_files import write_text

    gpu = DEVICES[options.gpu]
    study = load_study(options.config)
    check_counts(study)
    known = read_measured(options.measured, gpu=gpu)
    plan = make_plan(study, device=gpu, calibration=known, measure=True)
    questions = check_questions(study)
    if questions.n_images is not None:
        require_images(study, questions.n_images)
    plan = plan._replace(notes=(*plan.notes, *questions.notes, resolution_note(study)))
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
