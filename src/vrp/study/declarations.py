"""Types that the study's graph is declared in: files and stages.

Nothing heavy is imported: the workflow reads the graph while it plans.
"""

import importlib
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from vrp.config.study import StudyConfig
from vrp.interventions.masking import SHAM

Scope = Literal["study", "model", "shard", "list"]
"""What one job covers: the study, a model, a shard of a model, or a list of a model's shards."""

EXECUTION_KEYS = ("models.*.device_map", "models.*.batch_size")
"""Of a model: how it is run. Results depend on them as on a batch size: to 1e-5 in float32."""

ANALYSIS_KEYS = ("models.*.map_layers",)
"""Of a model: how its tables are analysed. `models.*` does not stand for them; a stage that reads
one names it."""


class Sizes(NamedTuple):
    """What the size of a model's tables depends on."""

    n_items: int
    """Items of the study."""
    n_positions: int
    """Positions whose hidden states are stored."""
    n_layers: int
    """Decoder layers."""
    n_heads: int
    """Attention heads of a layer."""
    d_model: int
    """Width of the residual stream."""
    value_bytes: int
    """Bytes of a stored value of a hidden state."""
    n_image_tokens: float
    """Image tokens of an item, mean."""
    n_answer_tokens: float
    """Predicted tokens of an item, mean."""
    captured: frozenset[str]
    """`extract.capture`."""
    k: int
    """Samples an item."""
    n_folds: int
    """Folds of the probes."""


@dataclass(frozen=True)
class Artifact:
    """A file of a study, or one for each model, or for each shard of a model."""

    name: str
    """Names the command's option and the stage's input or output, such as `answers`."""
    path: str
    """Relative to the study's folder, such as `{model}/answers/{shard}.parquet`."""
    help: str
    """What it holds."""
    schema: str = ""
    """Where a table's schema is, such as `vrp.tables.answers:ANSWERS`; empty: no table."""
    rows: Callable[[Sizes], float] | None = None
    """Rows of all of a model's files; None: as many in every study, or counted by condition."""
    row_bytes: Callable[[Sizes], float] = lambda sizes: 0.0
    """Bytes of a row before compression."""
    compressed: float = 1.0
    """What is left of them after zstd, measured on the embedded models. Floats hardly shrink; ids
    and names of conditions do."""
    repetitive: bool = False
    """Whether rows repeat: without an image, one question has one hidden state."""
    expand: Callable[[StudyConfig], list[str]] | None = None
    """Names that stand for `{file}` in the path, where one stage writes several files."""

    @cached_property
    def wildcards(self) -> frozenset[str]:
        """Names in braces in its path."""
        parsed = string.Formatter().parse(self.path)
        return frozenset(name for _, name, _, _ in parsed if name)

    @property
    def keyword(self) -> str:
        """Name among a rule's inputs or outputs."""
        name = self.name.replace("/", "_").replace("-", "_")
        return "item_table" if name == "items" else name  # `items` is a method there

    @property
    def option(self) -> str:
        """The command's option."""
        return "--" + self.name.replace("/", "-").replace("_", "-")


@dataclass(frozen=True)
class Cost:
    """What the time of a stage without a model grows with: start + slope · amount, one core."""

    start: float
    """Seconds of imports, reading and writing."""
    slope: float
    """Seconds for each unit of the amount."""
    amount: Callable[["CostInputs"], float]
    """The amount."""


class CostInputs(NamedTuple):
    """What costs are computed from."""

    study: StudyConfig
    """The configuration."""
    n_items: int
    """Items of the study."""
    n_layers: int
    """Decoder layers of the model; 0 for stages of all models."""
    d_model: int
    """Width of its residual stream; 0 for stages of all models."""
    n_intervened: int
    """Answers under interventions, of all models."""


def _always(study: StudyConfig) -> bool:
    return True


@dataclass(frozen=True)
class Stage:
    """A stage of a study: a rule, a command and a module of `vrp.stages` by the same name."""

    name: str
    """Such as `fetch_data`."""
    help: str
    """One line of `--help`, without a capital and a full stop."""
    per: Scope
    """What one job is of."""
    reads: tuple[Artifact, ...]
    """In the order of the command's options. Shards are read through the list of their stage."""
    writes: tuple[Artifact, ...]
    """In the order of the command's options."""
    keys: tuple[str, ...]
    """Keys of the configuration that its result depends on; a section's name stands for all of it,
    `models.*` for the one model that a job runs."""
    details: str = ""
    """Sentences that `vrp <stage> --help` adds."""
    choices: tuple[str, str] | None = None
    """What `vrp <stage> --help` lists, extensions included: what they are called, and where their
    names are, such as `vrp.signals.registry:SIGNALS` or a function that returns them."""
    enabled: Callable[[StudyConfig], bool] = _always
    """Whether a study has the stage."""
    reads_if: Mapping[str, Callable[[StudyConfig], bool]] = field(default_factory=dict)
    """Name of what it reads in some studies only → whether it does. Only what the study may be
    without can be there: in other studies, its changes make no job run again."""
    shards_key: str = ""
    """Key that says how many shards a model's items are cut into."""
    batch_key: str = ""
    """Key that says how many items a forward takes."""
    items_key: str = ""
    """Key that says how many of the study's items are asked about; empty: all."""
    runs_model: bool = False
    """Whether it runs a model: on a GPU where there is one, offline, batch after batch."""
    shareable: bool = False
    """Whether `extraction_from` may take its shards from another study."""
    local: bool = False
    """Whether it runs where Snakemake runs: only there is a network, or it would wait longer in a
    cluster's queue than it takes."""
    cost: Cost | str | None = None
    """For the planner: of a stage that runs a model, the function that counts its answers and
    operations, such as `vrp.planning.workload:extract_counts`. None: not planned."""
    reads_benchmarks: bool = False
    """Whether it reads how long the jobs of models took, where Snakemake wrote it down. That is no
    input: nothing is run for it, nor again because it changed."""
    memory_copies: int = 1
    """Copies of the tables that it reads in memory, measured: nested lists become Python's, and
    fits copy what they read."""

    def choice_names(self) -> list[str]:
        """Names of the registered things that a study may choose for this stage."""
        if self.choices is None:
            return []
        module, name = self.choices[1].split(":")
        registered = getattr(importlib.import_module(module), name)
        names = registered() if callable(registered) else registered
        return sorted(set(names) - {SHAM})  # the sham: no study chooses it

    def wants(self, artifact: Artifact, study: StudyConfig) -> bool:
        """Whether it reads a file in this study."""
        return self.reads_if.get(artifact.name, _always)(study)

    @property
    def command(self) -> str:
        """Name of the subcommand."""
        return self.name.replace("_", "-")

    @property
    def is_intervention(self) -> bool:
        """Whether it asks about some of the items again, under conditions."""
        return bool(self.items_key)

    @property
    def optional(self) -> bool:
        """Whether a study may be without it."""
        return self.enabled is not _always
