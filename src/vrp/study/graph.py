"""The study's graph: every file and every stage, declared once.

Derived from it: the rules' inputs, outputs, params, resources and commands (`vrp.workflow.rules`);
the subcommands and their options (`vrp.cli`); what a stage may read (`vrp.study.context`); jobs and
their state (`vrp.study.layout`, `vrp.study.status`); sharing (`vrp.study.sharing`); time, memory
and disk (`vrp.planning`); and the table of stages in docs/stages.md.

Paths are relative to the study's folder; `{model}` and `{shard}` stand for the names of a model
and of a shard. Nothing heavy is imported: the workflow reads this while it plans.
"""

from functools import cache

from vrp.config.study import StudyConfig
from vrp.interventions.masking import mask_conditions
from vrp.study.declarations import Artifact, Cost, Sizes, Stage
from vrp.vlm.capture_spec import FIRST_TOKENS

# Bytes of an item's id such as vqa/spatial/262148005, and of a short answer, in Arrow's layout.
_ID, _ANSWER = 30, 12
# Columns of the signals table and rows of an item's predictions, roughly.
_SIGNALS, _PROBES = 36, 20


def _states(sizes: Sizes) -> float:
    return sizes.n_items * sizes.n_positions


def _items(sizes: Sizes) -> float:
    return sizes.n_items


def _answer_bytes(sizes: Sizes) -> float:
    return _ID + 3 * _ANSWER + 48 + round(8 * sizes.n_answer_tokens) + 8 * FIRST_TOKENS


def _hidden_bytes(sizes: Sizes) -> float:
    return 2 * _ID + (sizes.n_layers + 1) * sizes.value_bytes * sizes.d_model


def _attention_bytes(sizes: Sizes) -> float:
    values = 0.0
    if "attention" in sizes.captured:  # a map and the image mass of every layer
        values += sizes.n_layers * (sizes.n_image_tokens + 1)
    if "heads" in sizes.captured:  # H_s and C_k
        values += 2 * sizes.n_layers * sizes.n_heads
    if "contributions" in sizes.captured:
        values += sizes.n_layers * sizes.n_heads
    if "residual_update" in sizes.captured:  # some sinks a layer
        values += 3 * sizes.n_layers
    return round(_ID + 12 + 4 * values)


def _lens_bytes(sizes: Sizes) -> float:
    per_layer = 2 * ("lens" in sizes.captured) + 2 * ("contributions" in sizes.captured)
    per_layer += "residual_update" in sizes.captured
    return _ID + 4 * (per_layer * sizes.n_layers + 4)


def _figure_files(study: StudyConfig) -> list[str]:
    from vrp.plots.figures import figure_names, has_data

    formats = sorted(set(study.figures.formats))
    return [
        f"{name}.{kind}"
        for name in figure_names()
        for kind in [*formats, *(["csv"] if has_data(name) else [])]
    ]


def _explorer_files(study: StudyConfig) -> list[str]:
    from vrp.study.explorer_files import explorer_files

    n_items = sum(split.count for split in study.sample.splits)
    return explorer_files(study.models, n_items, study.explorer.items_per_file).names()


INTERVENTION_ROW_BYTES = 2 * _ID + 2 * _ANSWER + 30
"""Of a row of the mask and ablate tables."""
ITEM_ROW_BYTES, EFFECT_ROW_BYTES = 2 * _ID + 3 * 64 + 150, 150

DATA = Artifact("data", "data.json", "the data manifest")
ITEMS = Artifact(
    "items", "items.parquet", "the study's items", "vrp.tables.items:ITEMS",
    _items, lambda sizes: ITEM_ROW_BYTES, 0.2,
)  # fmt: skip
SAMPLING = Artifact(
    "sampling", "sampling.json", "found, usable, dropped and taken items, per split"
)
BOXES = Artifact(
    "boxes", "boxes.parquet", "boxes of the objects that questions ask for",
    "vrp.tables.boxes:BOXES", _items, lambda sizes: _ID + 60, 0.3,
)  # fmt: skip
MANIFEST = Artifact("manifest", "models/{model}.json", "the model's manifest")
ANSWERS = Artifact(
    "answers", "{model}/answers/{shard}.parquet", "greedy answers", "vrp.tables.answers:ANSWERS",
    _items, _answer_bytes, 0.6,
)  # fmt: skip
ATTENTION = Artifact(
    "attention", "{model}/attention/{shard}.parquet", "attention to the image tokens",
    "vrp.tables.attention:ATTENTION", _items, _attention_bytes, 0.9,
)  # fmt: skip
HIDDEN = Artifact(
    "hidden", "{model}/hidden/{shard}.parquet", "hidden states", "vrp.tables.hidden:hidden_table",
    _states, _hidden_bytes, 0.85,
)  # fmt: skip
LENS = Artifact(
    "lens", "{model}/lens/{shard}.parquet", "margins and contributions of every layer",
    "vrp.tables.lens:LENS", _items, _lens_bytes, 0.75,
)  # fmt: skip
BLIND_ANSWERS = Artifact(
    "blind/answers", "{model}/blind/answers/{shard}.parquet", "greedy answers to a blank image",
    "vrp.tables.answers:ANSWERS", _items, _answer_bytes, 0.6,
)  # fmt: skip
BLIND_HIDDEN = Artifact(
    "blind/hidden", "{model}/blind/hidden/{shard}.parquet", "hidden states with a blank image",
    "vrp.tables.hidden:hidden_table", _states, _hidden_bytes, 0.6, repetitive=True,
)  # fmt: skip
BLIND_SCORES = Artifact(
    "blind_scores", "{model}/blind/scores/{shard}.parquet",
    "probability of the original answer with a blank image",
    "vrp.tables.blind_scores:BLIND_SCORES", _items,
    lambda sizes: _ID + 16 + round(4 * sizes.n_answer_tokens) + 4 * FIRST_TOKENS, 0.9,
)  # fmt: skip
CONSISTENCY = Artifact(
    "consistency", "{model}/consistency/{shard}.parquet", "sampled answers and their distribution",
    "vrp.tables.consistency:CONSISTENCY",
    _items, lambda sizes: _ID + (2 * sizes.k + 6) * _ANSWER + 80, 0.2,
)  # fmt: skip
P_TRUE = Artifact(
    "p_true", "{model}/p_true/{shard}.parquet", "the model's own judgement of its answers",
    "vrp.tables.p_true:P_TRUE", _items, lambda sizes: _ID + 150, 0.2,
)  # fmt: skip
SIGNALS = Artifact(
    "signals", "{model}/signals.parquet", "every signal of every item",
    "vrp.tables.signals:signal_table", _items, lambda sizes: _ID + 64 + _ANSWER + 4 * _SIGNALS, 0.5,
)  # fmt: skip
HEADS = Artifact(
    "heads", "{model}/heads.parquet", "signals of every attention head", "vrp.tables.heads:HEADS",
    lambda sizes: sizes.n_layers * sizes.n_heads, lambda sizes: 36,
)  # fmt: skip
RECIPES = Artifact(
    "recipes", "{model}/recipes.parquet",
    "how well attention separates right from wrong, by recipe",
    "vrp.tables.recipes:RECIPES", lambda sizes: 80, lambda sizes: 150,
)  # fmt: skip
METRICS = Artifact(
    "metrics", "{model}/metrics.parquet", "how well each signal separates right from wrong",
    "vrp.tables.estimates:METRICS", lambda sizes: 0,
)  # fmt: skip
PREDICTIONS = Artifact(
    "predictions", "{model}/predictions.parquet", "out-of-fold scores of every probe",
    "vrp.tables.predictions:PREDICTIONS",
    lambda sizes: sizes.n_items * _PROBES, lambda sizes: 2 * _ID + 12, 0.05,
)  # fmt: skip
NEURONS = Artifact(
    "neurons", "{model}/neurons.parquet", "weights of the probes for each neuron",
    "vrp.tables.neurons:NEURONS",
    lambda sizes: sizes.n_layers * sizes.n_folds * sizes.d_model, lambda sizes: 29, 0.35,
)  # fmt: skip
PROBES = Artifact(
    "probes", "{model}/probes.parquet", "estimates of every probe", "vrp.tables.estimates:PROBES",
    lambda sizes: 0,
)  # fmt: skip
SAVED_PROBE = Artifact(
    "saved_probe", "{model}/probe.safetensors", "the best linear probe, for other studies"
)
MASK = Artifact(
    "mask", "{model}/mask/{shard}.parquet", "answers with image tokens hidden",
    "vrp.tables.interventions:MASK", compressed=0.08,
)  # fmt: skip
ABLATE = Artifact(
    "ablate", "{model}/ablate/{shard}.parquet", "answers with neurons ablated",
    "vrp.tables.interventions:ABLATE", compressed=0.09,
)  # fmt: skip
TRACE = Artifact(
    "trace", "{model}/trace/{shard}.parquet", "first tokens under knockouts and patches by layer",
    "vrp.tables.trace:TRACE", compressed=0.1,
)  # fmt: skip
EFFECTS = Artifact(
    "effects", "effects.parquet", "effects of the interventions", "vrp.tables.effects:EFFECTS"
)
TRACE_EFFECTS = Artifact(
    "trace_effects", "trace_effects.parquet", "where the image enters the answer",
    "vrp.tables.trace:TRACE_EFFECTS",
)  # fmt: skip
FIGURES = Artifact(
    "figures", "figures/{file}", "figures, and their numbers as CSV", expand=_figure_files
)
SUMMARY = Artifact("summary", "summary.json", "the report's numbers")
REPORT = Artifact("report", "report.html", "the report")
EXPLORER_FILES = Artifact(
    "explorer_files", "explorer/{file}", "files that the explorer loads", expand=_explorer_files
)
EXPLORER = Artifact("explorer", "explorer.html", "the explorer of every answer")

# Stages. The keys of a section are spelled out where a stage reads only some of them.

_ANSWERING = ("data.folder", "scoring", "models.*", "extract.max_new_tokens",
              "extract.max_new_tokens_by_task")  # fmt: skip
# What counts as no effect.
_MARGINS = ("metrics.auroc_margin", "metrics.r_margin", "effects.equivalence_pp")
# What the conditions of the interventions are: names, controls, labels.
_CONDITIONS = ("mask.conditions", "ablate.conditions")
_MODEL_TABLES = (SIGNALS, HEADS, METRICS, PROBES, PREDICTIONS, NEURONS)

STAGES: tuple[Stage, ...] = (
    Stage(
        "fetch_data",
        "put images and question files into the data folder",
        per="study",
        reads=(),
        writes=(DATA,),
        keys=("data",),
        details="Scenes are drawn, official archives are downloaded, local files are checked. The "
        "manifest lists every question file with its SHA-256.",
        local=True,
        cost=Cost(0.6, 0.006, lambda i: _n_scenes(i.study)),
    ),
    Stage(
        "fetch_model",
        "fetch a checkpoint and record its files",
        per="model",
        reads=(),
        writes=(MANIFEST,),
        choices=("model families", "vrp.vlm.family_names:family_names"),
        keys=("models.*.family", "models.*.checkpoint", "models.*.revision"),
        details="Hub checkpoints are stored in the hub's cache at their pinned revision. The "
        "manifest lists the SHA-256 of the weights.",
        shareable=True,
        local=True,
    ),
    Stage(
        "sample",
        "sample exactly the requested number of items",
        per="study",
        reads=(DATA,),
        writes=(ITEMS, SAMPLING),
        choices=("data sets", "vrp.data.datasets:dataset_names"),
        keys=("study", "seed", "data", "sample", "scoring.vqa_rule", "scoring.vqa_threshold"),
        details="Sampling is stratified, seeded and independent of the order of the files. It "
        "stops if a split is too small.",
        local=True,
        cost=Cost(0.6, 0.002, lambda i: i.n_items),
    ),
    Stage(
        "boxes",
        "find the boxes of the objects that questions ask for",
        per="study",
        reads=(DATA, ITEMS),
        writes=(BOXES,),
        keys=("data.folder", "data.origin", "boxes"),
        details="The boxes show whether attention is on the object. They are read from an "
        "annotation file in COCO's format; drawn scenes have one.",
        enabled=lambda study: study.data.origin == "scenes" or study.boxes.instances is not None,
        local=True,
        cost=Cost(0.6, 2e-5, lambda i: i.n_items),
    ),
    Stage(
        "extract",
        "run the model and store answers, attention, hidden states and lens",
        per="shard",
        reads=(MANIFEST, ITEMS),
        writes=(ANSWERS, ATTENTION, HIDDEN, LENS),
        keys=(*_ANSWERING, "extract.shards", "extract.capture", "extract.positions",
              "extract.hidden_dtype"),
        details="Each job makes one pass over one shard of the items.",
        shards_key="extract.shards",
        batch_key="extract.batch_size",
        runs_model=True,
        shareable=True,
        cost="vrp.planning.workload:extract_counts",
    ),
    Stage(
        "blind",
        "ask the same questions with a blank image",
        per="shard",
        reads=(MANIFEST, ITEMS, ANSWERS),
        writes=(BLIND_ANSWERS, BLIND_HIDDEN, BLIND_SCORES),
        keys=(*_ANSWERING, "extract.shards", "extract.positions", "extract.hidden_dtype"),
        details="This is a guard: what a probe predicts with a blank image does not come from the "
        "image. The original answer is also scored with the blank image.",
        enabled=lambda study: study.extract.blind,
        shards_key="extract.shards",
        batch_key="extract.batch_size",
        runs_model=True,
        shareable=True,
        cost="vrp.planning.workload:blind_counts",
    ),
    Stage(
        "consistency",
        "sample K answers per item from one prefill",
        per="shard",
        reads=(MANIFEST, ITEMS),
        writes=(CONSISTENCY,),
        keys=("seed", *_ANSWERING, "extract.shards", "consistency.k", "consistency.temperature",
              "consistency.top_p", "consistency.floor"),
        details="The noise is keyed by seed, item, sample and step, so the samples do not depend "
        "on order or batches.",
        shards_key="extract.shards",
        batch_key="consistency.batch_size",
        runs_model=True,
        shareable=True,
        cost="vrp.planning.workload:consistency_counts",
    ),
    Stage(
        "p_true",
        "ask the model whether its own answers are correct",
        per="shard",
        reads=(MANIFEST, ITEMS, ANSWERS),
        writes=(P_TRUE,),
        keys=("data.folder", "models.*", "extract.shards"),
        details="P(True) is the probability of yes as the first token, relative to yes and no.",
        enabled=lambda study: study.p_true.enabled,
        shards_key="extract.shards",
        batch_key="extract.batch_size",
        runs_model=True,
        shareable=True,
        cost="vrp.planning.workload:p_true_counts",
    ),
    Stage(
        "gather",
        "list the shards of one stage and model after checking that they are consistent",
        per="list",
        reads=(),
        writes=(),
        keys=(),
        details="Later stages wait for the list. Shards from different runs are refused.",
        local=True,
    ),
    Stage(
        "metrics",
        "compute every signal and how well it separates right from wrong answers",
        per="model",
        reads=(ITEMS, BOXES, ANSWERS, ATTENTION, LENS, CONSISTENCY, BLIND_SCORES, P_TRUE),
        writes=(SIGNALS, HEADS, RECIPES, METRICS),
        choices=("signals", "vrp.signals.registry:SIGNALS"),
        keys=("seed", "metrics", "models.*.map_layers"),
        cost=Cost(1.5, 3e-6, lambda i: i.n_items * i.study.metrics.bootstrap),
        memory_copies=15,
    ),
    Stage(
        "probes",
        "probe the hidden states of every layer for correctness",
        per="model",
        reads=(ITEMS, SIGNALS, ANSWERS, ATTENTION, HIDDEN, LENS, BLIND_HIDDEN),
        writes=(PREDICTIONS, NEURONS, PROBES, SAVED_PROBE),
        keys=("seed", "probes", "metrics.auroc_margin"),
        details="Cross-validation is grouped by image; layer and penalty are chosen inside the "
        "training folds. The best linear probe is saved; `vrp probes --apply` applies it to "
        "another study (`vrp probes --apply --help`).",
        # Numbers that pass through fits.
        cost=Cost(4.5, 2e-7, lambda i: i.n_items * (i.n_layers + 1) * i.d_model * _n_fits(i.study)),
        memory_copies=8,
    ),
    Stage(
        "mask",
        "hide the most attended image tokens, and random ones as controls",
        per="shard",
        reads=(MANIFEST, ITEMS, ANSWERS, ATTENTION, BOXES),
        writes=(MASK,),
        choices=("kinds of condition", "vrp.interventions.masking:MASK_KINDS"),
        keys=("seed", *_ANSWERING, "mask.items", "mask.conditions", "mask.shards"),
        details="Conditions are rows of `mask.conditions`. The baseline, with nothing hidden, is "
        "always run as well.",
        enabled=lambda study: study.mask.enabled,
        reads_if={"boxes": lambda study: any(one.of_object for one in mask_conditions(study.mask))},
        shards_key="mask.shards",
        batch_key="mask.batch_size",
        items_key="mask.items",
        runs_model=True,
        shareable=True,
        cost="vrp.planning.workload:mask_counts",
        memory_copies=6,
    ),
    Stage(
        "ablate",
        "ablate the neurons that the probe reads, and random ones as controls",
        per="shard",
        reads=(MANIFEST, ITEMS, ANSWERS, PREDICTIONS, NEURONS),
        writes=(ABLATE,),
        choices=("kinds of condition", "vrp.interventions.ablation:ABLATION_KINDS"),
        keys=("seed", *_ANSWERING, "ablate.items", "ablate.conditions", "ablate.shards"),
        details="Top neurons are taken from folds without the evaluated item.",
        enabled=lambda study: study.ablate.enabled,
        shards_key="ablate.shards",
        batch_key="ablate.batch_size",
        items_key="ablate.items",
        runs_model=True,
        cost="vrp.planning.workload:ablate_counts",
    ),
    Stage(
        "trace",
        "trace in which layers the image enters the answer",
        per="shard",
        reads=(MANIFEST, ITEMS, ANSWERS),
        writes=(TRACE,),
        keys=("seed", "data.folder", "models.*", "trace.items", "trace.window", "trace.shards"),
        details="Attention is knocked out by layer window, and the last token's state is patched "
        "into a run with a blank image.",
        enabled=lambda study: study.trace.enabled,
        shards_key="trace.shards",
        batch_key="trace.batch_size",
        items_key="trace.items",
        runs_model=True,
        shareable=True,
        cost="vrp.planning.workload:trace_counts",
        memory_copies=6,
    ),
    Stage(
        "effects",
        "estimate every intervention's paired effect on accuracy",
        per="study",
        reads=(ITEMS, ANSWERS, MASK, ABLATE, TRACE),
        writes=(EFFECTS, TRACE_EFFECTS),
        keys=("seed", "effects", *_CONDITIONS),
        cost=Cost(1.5, 6e-5, lambda i: i.n_intervened),
    ),
    Stage(
        "figures",
        "draw every figure from the tables",
        per="study",
        reads=(ITEMS, EFFECTS, TRACE_EFFECTS, ANSWERS, ATTENTION, LENS, CONSISTENCY,
               *_MODEL_TABLES, RECIPES, MASK),
        writes=(FIGURES,),
        choices=("figures", "vrp.plots.figures:figure_names"),
        keys=("figures", *_MARGINS, *_CONDITIONS),
        details="The numbers of each figure are stored next to it as CSV. `vrp figures "
        "results/demo --only auroc_by_signal --format pdf --width column` draws figures from a "
        "study's folder for a paper (`vrp figures FOLDER --help`).",
        cost=Cost(7.5, 0.004, lambda i: i.n_items * len(i.study.models)),
        memory_copies=6,
    ),
    Stage(
        "report",
        "write the report and the summary from the tables",
        per="study",
        reads=(DATA, ITEMS, SAMPLING, EFFECTS, TRACE_EFFECTS, ANSWERS, ATTENTION, LENS,
               CONSISTENCY, *_MODEL_TABLES, MASK, FIGURES),
        writes=(SUMMARY, REPORT),
        keys=("study", "data", "report", "explorer.enabled", *_MARGINS, *_CONDITIONS),
        details="Times come from the benchmark files, if there are any. `vrp report results/demo` "
        "reports on a study's folder in its present state (`vrp report FOLDER --help`).",
        reads_benchmarks=True,
        cost=Cost(2.5, 0.002, lambda i: i.n_items * len(i.study.models)),
        memory_copies=6,
    ),
    Stage(
        "explorer",
        "write a page that shows every answer",
        per="study",
        reads=(ITEMS, BOXES, ANSWERS, ATTENTION, LENS, CONSISTENCY, BLIND_ANSWERS, SIGNALS,
               PREDICTIONS, MASK, ABLATE, TRACE),
        writes=(EXPLORER_FILES, EXPLORER),
        keys=("study", "data.folder", "sample.splits", "scoring.vqa_threshold", "explorer",
              *_CONDITIONS),
        details="The page needs no server: `explorer.html` loads its files from the folder "
        "`explorer` next to it. `vrp explorer results/demo` writes the page for a study's folder "
        "in its present state (`vrp explorer FOLDER --help`).",
        enabled=lambda study: study.explorer.enabled,
        cost=Cost(2.5, 0.002, lambda i: i.n_items * len(i.study.models)),
        memory_copies=2,
    ),
)  # fmt: skip
"""In an order in which they can run."""


def _n_scenes(study: StudyConfig) -> int:
    scenes = study.data.scenes
    drawn = study.data.origin == "scenes"
    return max(scenes.n_pope_images, scenes.n_vqa_images) if drawn else 0


def _n_fits(study: StudyConfig) -> int:
    probes = study.probes
    return probes.folds * (1 + probes.inner_folds * len(probes.penalties))


STAGE: dict[str, Stage] = {stage.name: stage for stage in STAGES}
"""By name."""

MADE_BY: dict[Artifact, Stage] = {made: stage for stage in STAGES for made in stage.writes}
"""The stage that writes a file."""

LISTS: dict[str, Artifact] = {
    stage.name: Artifact(
        stage.name, f"{{model}}/{stage.name}.json", f"list of the shards of the stage {stage.name}"
    )
    for stage in STAGES
    if stage.per == "shard"
}
"""By stage: the list of its shards of one model, which later stages wait for."""

LIST_OF: dict[Artifact, Stage] = {listed: STAGE[name] for name, listed in LISTS.items()}
"""The stage whose shards a list holds."""


@cache
def n_stages_behind(name: str) -> int:
    """Stages of the longest chain that waits for a stage."""
    made = set(STAGE[name].writes)
    behind = [n_stages_behind(stage.name) for stage in STAGES if made.intersection(stage.reads)]
    return 1 + max(behind) if behind else 0
