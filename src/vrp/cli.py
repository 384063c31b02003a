"""The command line: one subcommand per stage. It parses paths and calls the stage.

Importing this module must stay light: a stage's own imports (torch takes seconds) happen when
the stage is called.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vrp.config.extract import answer_limits
from vrp.config.margins import Margins
from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig, load_study, stage_config
from vrp.errors import InputError
from vrp.logs import configure_logging
from vrp.planning.devices import DEFAULT_GPU, DEVICES
from vrp.study.provenance import provenance
from vrp.termination import Terminated, exit_at_once, install_sigterm_handler
from vrp.zoo import ZOO_FAMILIES

Run = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand; exit 2 with one line on bad input."""
    options = build_parser().parse_args(arguments)
    configure_logging()
    install_sigterm_handler()
    try:
        options.run(options)
    except InputError as error:
        print(f"vrp {options.command}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        # A folder that cannot be written, a full disk: the user's to mend, like bad input.
        if error.strerror is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"vrp {options.command}: {place}{error.strerror}; check permissions and free space",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Terminated as told:
        exit_at_once(told)


def build_parser() -> argparse.ArgumentParser:
    """All subcommands and their options."""
    parser = argparse.ArgumentParser(
        prog="vrp",
        description="When can a vision-language model's answer be trusted, and where in the "
        "model can that be read? Each subcommand is one stage of the workflow.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="stage")
    _add_inputs(commands)
    _add_model_runs(commands)
    _add_analyses(commands)
    _add_interventions(commands)
    _add_presentation(commands)
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


def _stage(commands: Any, name: str, summary: str, run: Run, details: str = "") -> Any:
    parser = _command(commands, name, summary, run, details)
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML file")
    return parser


def _paths(parser: Any, **options: str) -> None:
    """Required options of one path each: name → help."""
    for name, text in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, help=text)


def _files(parser: Any, **options: str) -> None:
    """Required options of one or more files each."""
    for name, text in options.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=Path, nargs="+", required=True, help=text)


def _optional_files(parser: Any, **options: str) -> None:
    """Options of any number of files, none where the config left the stage out."""
    for name, text in options.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=Path, nargs="*", default=[], help=text)


def _model(parser: Any) -> None:
    parser.add_argument("--model", required=True, help="name of a model in the config")


def _shard(parser: Any) -> None:
    parser.add_argument(
        "--shard", type=int, default=0, help="which shard to run, from 0 (the default)"
    )


def _inputs_of_a_run(parser: Any) -> None:
    _model(parser)
    _shard(parser)
    _paths(parser, manifest="the model's manifest (fetch-model)", items="items.parquet")


def _origin(study: StudyConfig, stage: str, model: str | None = None, revision: str = "") -> Any:
    """Provenance for the tables of one stage."""
    if model is not None:
        _model_of(study, model)
    return provenance(
        study=study.study,
        stage=stage,
        config=stage_config(study, stage, model),
        model=model or "",
        revision=revision,
    )


def _longest_answers(study: StudyConfig) -> dict[str, int]:
    return answer_limits(study.extract.max_new_tokens, study.extract.max_new_tokens_by_task)


def _model_of(study: StudyConfig, name: str) -> ModelConfig:
    if name not in study.models:
        known = ", ".join(study.models)
        raise InputError(f"model {name!r} is not in the config; choose one of {known}")
    return study.models[name]


def _add_inputs(commands: Any) -> None:
    _stage(
        commands, "fetch", "fetch the data and all models of a study, where there is a network",
        _fetch,
        "Fills the caches that fetch-data and fetch-model then find full: everything is resumed, "
        "checked, and left alone where it is there.",
    )  # fmt: skip
    parser = _stage(
        commands, "fetch-data", "put images and question files into the data folder", _fetch_data,
        "Scenes are drawn, official archives downloaded, local files checked; the manifest lists "
        "every question file with its SHA-256.",
    )  # fmt: skip
    _paths(parser, output="the manifest to write (JSON)")
    parser = _stage(
        commands, "fetch-model", "fetch a checkpoint and record exactly what it is", _fetch_model,
        "Hub checkpoints go to the hub's cache at their pinned revision; the manifest lists the "
        "weights' SHA-256.",
    )  # fmt: skip
    _model(parser)
    _paths(parser, output="the manifest to write (JSON)")
    parser = _stage(
        commands, "sample", "sample the study's items, exactly as many as asked for", _sample,
        "Stratified, seeded, independent of file order; stops where a split is too small.",
    )  # fmt: skip
    _paths(
        parser,
        data="the data manifest (fetch-data)",
        output="items.parquet",
        report="found, usable, dropped and taken, per split (JSON)",
    )


def _add_model_runs(commands: Any) -> None:
    parser = _stage(
        commands, "extract", "ask the model and keep answers, attention, hidden states, lens",
        _extract, "One pass over one shard of the items.",
    )  # fmt: skip
    _inputs_of_a_run(parser)
    _paths(
        parser,
        answers="answers shard to write",
        attention="attention shard to write",
        hidden="hidden-state shard to write",
        lens="lens shard to write",
    )
    parser = _stage(
        commands, "blind", "ask the same questions with a blank image", _blind,
        "A guard: what a probe reads without an image was never seen in the image.",
    )  # fmt: skip
    _inputs_of_a_run(parser)
    _paths(parser, answers="answers shard to write", hidden="hidden-state shard to write")
    parser = _stage(
        commands, "consistency", "sample K answers an item from one prefill", _consistency,
        "Noise is keyed by seed, item, sample and step: order and batches do not matter.",
    )  # fmt: skip
    _inputs_of_a_run(parser)
    _paths(parser, output="consistency shard to write")


def _add_analyses(commands: Any) -> None:
    parser = _stage(
        commands, "gather", "list the shards of one run of a model, once they fit together",
        _gather, "Later stages wait for the list; shards of two runs are refused.",
    )  # fmt: skip
    _paths(parser, folder="the model's folder, such as results/demo/llava")
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="TABLE",
        help="folders of shards in it that one run wrote together, such as answers attention",
    )  # fmt: skip
    parser.add_argument(
        "--shards", type=int, required=True, help="how many each must hold, from 000"
    )
    _optional_files(parser, items="items tables that must be equal (extraction_from)")
    _paths(parser, output="the list to write (JSON)")
    parser = _stage(
        commands, "metrics", "compute every signal and how well it tells right from wrong",
        _metrics,
    )  # fmt: skip
    _model(parser)
    _paths(
        parser,
        items="items.parquet",
        extraction="list of the extraction's shards (gather)",
        consistency="list of the consistency shards (gather)",
        signals="signals.parquet to write",
        heads="per-head table to write (heads.parquet)",
        output="metrics.parquet to write",
    )
    parser = _stage(
        commands, "probes", "probe hidden states for correctness, layer by layer", _probes,
        "Image-grouped cross-validation; layer and penalty are picked inside training folds.",
    )  # fmt: skip
    _model(parser)
    _paths(
        parser,
        items="items.parquet",
        signals="signals.parquet",
        extraction="list of the extraction's shards (gather)",
    )
    _optional_files(parser, blind="list of the shards with a blank image (gather)")
    _paths(
        parser,
        predictions="predictions.parquet to write",
        neurons="neurons.parquet to write",
        output="probes.parquet to write",
    )


def _add_interventions(commands: Any) -> None:
    parser = _stage(
        commands, "mask", "hide the most attended image tokens, and controls", _mask,
        "Same number at random, the least attended, no image; and a dose curve.",
    )  # fmt: skip
    _inputs_of_a_run(parser)
    _paths(
        parser,
        extraction="list of the extraction's shards (gather)",
        output="mask shard to write",
    )
    parser = _stage(
        commands, "ablate", "silence neurons that the probe reads, and random ones", _ablate,
        "Top neurons come from folds without the item that is evaluated.",
    )  # fmt: skip
    _inputs_of_a_run(parser)
    _paths(
        parser,
        extraction="list of the extraction's shards (gather)",
        predictions="predictions.parquet (folds)",
        neurons="neurons.parquet",
        output="ablate shard to write",
    )
    parser = _stage(
        commands, "effects", "estimate every intervention's paired effect on accuracy", _effects
    )
    _paths(parser, items="items.parquet")
    _files(parser, extraction=f"{_LISTS} extraction")
    _optional_files(parser, mask=f"{_LISTS} masking", ablate=f"{_LISTS} ablation")
    _paths(parser, output="effects.parquet to write")


def _add_presentation(commands: Any) -> None:
    for name, summary, run in (
        ("figures", "draw every figure from the tables", _figures),
        ("report", "write the report and the summary from the tables", _report),
    ):
        parser = _stage(commands, name, summary, run)
        _paths(parser, items="items.parquet", effects="effects.parquet")
        _files(parser, extraction=f"{_LISTS} extraction", consistency=f"{_LISTS} consistency")
        _files(parser, **{table: f"{table} of all models" for table in _MODEL_TABLES})
        _optional_files(parser, mask=f"{_LISTS} masking")
        if name == "figures":
            _paths(parser, output="folder of the figures")
        else:
            parser.add_argument(
                "--figures", type=Path, nargs="+", required=True, help="figures to embed (SVG)"
            )
            _paths(
                parser,
                data="the data manifest (fetch-data)",
                sampling="the sampling report (JSON)",
                summary="summary.json to write",
                output="report.html to write",
            )


_LISTS = "lists of all models' shards (gather):"
# What figures and report read for every model: tables in one file, and in shards that a list names.
_MODEL_TABLES = ("signals", "heads", "metrics", "probes", "predictions", "neurons")
_LISTED_TABLES = {
    "answers": "extraction", "attention": "extraction", "lens": "extraction",
    "consistency": "consistency", "mask": "mask",
}  # fmt: skip


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
        commands, "score", "score an answer file that any model made, for POPE or VQA v2", _score,
        "An answer file is JSON or JSON lines with question_id and free text. POPE: give a "
        "question file for each split and an answer file for each, in the same order, or one "
        "answer file whose rows name their split (key split or category). VQA v2: give the "
        "annotations, too. Accuracy, precision, recall, F1, yes-rate and parse rate stand side by "
        "side under the strict parser and the official one.",
    )  # fmt: skip
    _files(
        parser,
        questions="official question files: POPE's splits, or VQA v2's one",
        answers="answer files (JSON or JSON lines)",
    )
    parser.add_argument("--annotations", type=Path, help="VQA v2 annotations; none means POPE")
    parser.add_argument("--answer-key", help="key that holds the answer's text (default: found)")
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
    from vrp.stages import fetch

    fetch.run(load_study(options.config))


def _fetch_data(options: argparse.Namespace) -> None:
    from vrp.stages import fetch_data

    study = load_study(options.config)
    fetch_data.run(data=study.data, output=options.output)


def _fetch_model(options: argparse.Namespace) -> None:
    from vrp.stages import fetch_model

    study = load_study(options.config)
    fetch_model.run(model=_model_of(study, options.model), output=options.output)


def _sample(options: argparse.Namespace) -> None:
    from vrp.stages import sample

    study = load_study(options.config)
    sample.run(
        seed=study.seed,
        data=study.data,
        sample=study.sample,
        data_manifest=options.data,
        output=options.output,
        report=options.report,
        provenance=_origin(study, "sample"),
    )


def _extract(options: argparse.Namespace) -> None:
    from vrp.stages import extract

    study = load_study(options.config)
    extract.run(
        data=study.data,
        scoring=study.scoring,
        model=_model_of(study, options.model),
        extract=study.extract,
        manifest=options.manifest,
        items=options.items,
        shard=options.shard,
        answers=options.answers,
        attention=options.attention,
        hidden=options.hidden,
        lens=options.lens,
        provenance=_origin(study, "extract", options.model),
    )


def _blind(options: argparse.Namespace) -> None:
    from vrp.stages import blind

    study = load_study(options.config)
    blind.run(
        data=study.data,
        scoring=study.scoring,
        model=_model_of(study, options.model),
        n_shards=study.extract.shards,
        batch_size=study.extract.batch_size,
        max_new_tokens=_longest_answers(study),
        positions=study.extract.positions,
        hidden_dtype=study.extract.hidden_dtype,
        manifest=options.manifest,
        items=options.items,
        shard=options.shard,
        answers=options.answers,
        hidden=options.hidden,
        provenance=_origin(study, "blind", options.model),
    )


def _consistency(options: argparse.Namespace) -> None:
    from vrp.stages import consistency

    study = load_study(options.config)
    consistency.run(
        seed=study.seed,
        data=study.data,
        scoring=study.scoring,
        model=_model_of(study, options.model),
        consistency=study.consistency,
        n_shards=study.extract.shards,
        max_new_tokens=_longest_answers(study),
        manifest=options.manifest,
        items=options.items,
        shard=options.shard,
        output=options.output,
        provenance=_origin(study, "consistency", options.model),
    )


def _gather(options: argparse.Namespace) -> None:
    from vrp.stages import gather

    gather.run(
        folder=options.folder,
        tables=options.tables,
        n_shards=options.shards,
        items=options.items,
        output=options.output,
    )


def _metrics(options: argparse.Namespace) -> None:
    from vrp.stages import metrics
    from vrp.tables.shard_list import listed_shards

    study = load_study(options.config)
    made_by = _origin(study, "metrics", options.model)
    metrics.run(
        seed=study.seed,
        metrics=study.metrics,
        items=options.items,
        answers=listed_shards(options.extraction, "answers"),
        attention=listed_shards(options.extraction, "attention"),
        lens=listed_shards(options.extraction, "lens"),
        consistency=listed_shards(options.consistency, "consistency"),
        signals=options.signals,
        heads=options.heads,
        output=options.output,
        provenance=made_by,
    )


def _probes(options: argparse.Namespace) -> None:
    from vrp.stages import probes
    from vrp.tables.shard_list import listed_shards

    study = load_study(options.config)
    made_by = _origin(study, "probes", options.model)
    probes.run(
        seed=study.seed,
        probes=study.probes,
        auroc_margin=study.metrics.auroc_margin,
        items=options.items,
        answers=listed_shards(options.extraction, "answers"),
        attention=listed_shards(options.extraction, "attention"),
        hidden=listed_shards(options.extraction, "hidden"),
        lens=listed_shards(options.extraction, "lens"),
        signals=options.signals,
        blind_hidden=listed_shards(options.blind, "blind/hidden"),
        predictions=options.predictions,
        neurons=options.neurons,
        output=options.output,
        provenance=made_by,
    )


def _mask(options: argparse.Namespace) -> None:
    from vrp.stages import mask
    from vrp.tables.shard_list import listed_shards

    study = load_study(options.config)
    model = _model_of(study, options.model)
    mask.run(
        seed=study.seed,
        data=study.data,
        scoring=study.scoring,
        model=model,
        mask=study.mask,
        max_new_tokens=_longest_answers(study),
        manifest=options.manifest,
        items=options.items,
        answers=listed_shards(options.extraction, "answers"),
        attention=listed_shards(options.extraction, "attention"),
        shard=options.shard,
        output=options.output,
        provenance=_origin(study, "mask", options.model),
    )


def _ablate(options: argparse.Namespace) -> None:
    from vrp.stages import ablate
    from vrp.tables.shard_list import listed_shards

    study = load_study(options.config)
    model = _model_of(study, options.model)
    ablate.run(
        seed=study.seed,
        data=study.data,
        scoring=study.scoring,
        model=model,
        ablate=study.ablate,
        max_new_tokens=_longest_answers(study),
        manifest=options.manifest,
        items=options.items,
        answers=listed_shards(options.extraction, "answers"),
        predictions=options.predictions,
        neurons=options.neurons,
        shard=options.shard,
        output=options.output,
        provenance=_origin(study, "ablate", options.model),
    )


def _effects(options: argparse.Namespace) -> None:
    from vrp.interventions.conditions import conditions_by_name
    from vrp.stages import effects
    from vrp.tables.shard_list import listed_shards

    study = load_study(options.config)
    effects.run(
        seed=study.seed,
        effects=study.effects,
        conditions=conditions_by_name(study),
        items=options.items,
        answers=listed_shards(options.extraction, "answers"),
        mask=listed_shards(options.mask, "mask"),
        ablate=listed_shards(options.ablate, "ablate"),
        output=options.output,
        provenance=_origin(study, "effects"),
    )


def _tables_of_all_models(options: argparse.Namespace) -> dict[str, list[Path]]:
    """Files of every table that figures and report read, of all models."""
    from vrp.tables.shard_list import listed_shards

    listed = {
        table: listed_shards(getattr(options, run), table) for table, run in _LISTED_TABLES.items()
    }
    return listed | {table: getattr(options, table) for table in _MODEL_TABLES}


def _figures(options: argparse.Namespace) -> None:
    from vrp.interventions.conditions import conditions_by_name
    from vrp.stages import figures

    study = load_study(options.config)
    figures.run(
        figures=study.figures,
        conditions=conditions_by_name(study),
        margins=Margins(auroc=study.metrics.auroc_margin, effect_pp=study.effects.equivalence_pp),
        items=options.items,
        effects=options.effects,
        tables=_tables_of_all_models(options),
        output=options.output,
    )


def _report(options: argparse.Namespace) -> None:
    from vrp.interventions.conditions import conditions_by_name
    from vrp.stages import report

    study = load_study(options.config)
    report.run(
        study=study.study,
        data=study.data,
        report=study.report,
        conditions=conditions_by_name(study),
        margins=Margins(
            auroc=study.metrics.auroc_margin,
            r=study.metrics.r_margin,
            effect_pp=study.effects.equivalence_pp,
        ),
        data_manifest=options.data,
        items=options.items,
        sampling=options.sampling,
        effects=options.effects,
        tables=_tables_of_all_models(options),
        figures=options.figures,
        summary=options.summary,
        output=options.output,
        provenance=_origin(study, "report"),
    )


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
    from vrp.planning.calibration import read_measured
    from vrp.planning.plan import make_plan
    from vrp.planning.plan_text import plan_json, plan_text
    from vrp.tables.files import write_text

    gpu = DEVICES[options.gpu]
    study = load_study(options.config)
    known = read_measured(options.measured, gpu=gpu)
    plan = make_plan(study, device=gpu, calibration=known)
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
