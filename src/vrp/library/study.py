"""A finished study's folder: its tables, estimates, figures and decision."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from vrp.data.images import sampled_image
from vrp.data.item import Item
from vrp.errors import InputError, unknown_name
from vrp.library.model import Model, Settings, load
from vrp.running.model_run import as_items
from vrp.study.graph import MADE_BY
from vrp.study.results import ModelResults, StudyResults
from vrp.study.study_folder import open_study_folder, read_snapshot
from vrp.tables.attention import ATTENTION
from vrp.tables.boxes import BOXES
from vrp.tables.estimates import METRICS, PROBES
from vrp.tables.items import ITEMS
from vrp.tables.neurons import NEURONS
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.seal import check_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vrp.plots.figures import FigureSpec
    from vrp.report.decision import Recommendation
    from vrp.report.evidence import StudyEvidence


class Study:
    """A finished study, read from its folder; nothing is written there.

    Args:
        folder: such as `results/demo`, wherever it has been moved to.

    Raises:
        InputError: the folder is no study's, or its files are damaged or do not fit together.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        """The study's folder."""
        self.config = read_snapshot(self.folder)
        """The configuration that its tables were made with."""
        self.results: StudyResults = open_study_folder(self.folder)
        """Its tables, as figures and report read them."""

    def __repr__(self) -> str:
        """Name the folder, the models and how many items there are."""
        return f"Study({str(self.folder)!r}, models={self.models}, n_items={len(self.items)})"

    @property
    def models(self) -> list[str]:
        """Names of its models."""
        return [model.name for model in self.results.models]

    @property
    def table_names(self) -> list[str]:
        """Names of the tables that exist."""
        found = [*self.results.files, *(name for one in self.results.models for name in one.files)]
        return [made.name for made in MADE_BY if made.name in found]

    def table(self, name: str, model: str | None = None) -> pl.LazyFrame:
        """Return a table, whose files are verified now and read when it is collected.

        Args:
            name: such as items, effects, answers, signals, metrics, probes or predictions, one of
                `table_names`.
            model: one model; None: all, with a column `model` before the others.

        Raises:
            InputError: there is no such table or model, or a file is damaged.
        """
        if name in self.results.files:
            return _scan(self.results.files[name])
        if name not in self.table_names:
            raise InputError(f"{self.folder}: {unknown_name('table', name, self.table_names)}")
        if model is not None:
            return _scan(
                self._of(model).files.get(name, ()), f"{self.folder}: {model} has no {name}"
            )
        return pl.concat(
            [
                _scan(one.files[name]).select(pl.lit(one.name).alias("model"), pl.all())
                for one in self.results.models
                if name in one.files
            ],
            how="diagonal_relaxed",
        )

    @property
    def items(self) -> pl.DataFrame:
        """The items that were asked, one row each."""
        return self.results.table(ITEMS)

    @cached_property
    def estimates(self) -> pl.DataFrame:
        """How well each signal and probe of each model tells right from wrong, with intervals.

        One row a model, `predictor`, `scope`, `metric` and `layer` (−1 where it is of none).
        """
        frames = [
            one.table(schema).select(pl.lit(one.name).alias("model"), pl.all())
            for one in self.results.models
            for schema in (METRICS, PROBES)
        ]
        return pl.concat(frames)

    def auroc(self, model: str | None = None) -> pl.DataFrame:
        """AUROC within strata of every signal and probe, the largest first.

        Args:
            model: one model; None: all.
        """
        chosen = pl.lit(True) if model is None else pl.col("model") == self._of(model).name
        found = self.estimates.filter(chosen, scope="within_strata", metric="auroc")
        shown = ("model", "predictor", "layer", "value", "low", "high", "p_adjusted", "n", "note")
        return found.select(shown).fill_nan(None).sort("value", descending=True, nulls_last=True)

    @property
    def figure_names(self) -> list[str]:
        """Names of the figures that `plot` draws."""
        from vrp.plots.figures import figure_names

        return list(figure_names())

    def plot(self, name: str) -> "Figure":
        """Draw a figure of the report, such as `auroc_by_signal`.

        Raises:
            InputError: there is no such figure.
        """
        from vrp.plots.style import house_style

        spec = self._figure(name)
        with house_style():
            return spec.draw(self.results)

    def _figure(self, name: str) -> "FigureSpec":
        from vrp.plots.figures import load_figures

        if name not in self.figure_names:
            raise InputError(unknown_name("figure", name, self.figure_names))
        return next(spec for spec in load_figures() if spec.name == name)

    def best_signal(self, model: str) -> "Recommendation | None":
        """The cheapest signal or probe that is about as good as the best one, as the report's
        decision says; None where nothing tells right answers from wrong ones.

        Raises:
            InputError: there is no such model, or it lacks a table that the decision needs.
        """
        from vrp.report.decision import decide, read_values

        of_model = self._of(model)
        evidence = next(one for one in self._evidence.models if one.name == model)
        return decide(evidence, read_values(of_model)).recommended

    @cached_property
    def _evidence(self) -> "StudyEvidence":
        from vrp.report.evidence import gather_evidence

        return gather_evidence(
            self.results, study=self.config.study, data_manifest=self.folder / "data.json",
            sampling=self.folder / "sampling.json",
        )  # fmt: skip

    def item(self, item_id: str) -> dict[str, Any]:
        """Return what `Model.read` and `Model.intervene` take of an item: `read(**item)`.

        Raises:
            InputError: there is no such item, or its image is not where it was.
        """
        found = self._items.get(item_id)
        if found is None:
            raise InputError(f"{self.folder}: has no item {item_id!r}; see Study.items")
        known = {
            "image": self._image(found), "question": found.question, "task": found.task,
            "answers": found.answers, "reference": found.reference, "item_id": item_id,
        }  # fmt: skip
        row = self.results.table(BOXES).filter(item_id=item_id)
        boxes = row["boxes"][0].to_list() if len(row) else []
        return {**known, "boxes": boxes} if boxes else known

    @cached_property
    def _items(self) -> dict[str, Item]:
        return as_items(self.items)

    def _image(self, item: Item) -> Path:
        # The configuration names the data folder from where the workflow ran.
        folder = Path(self.config.data.folder)
        places = [folder, *(parent / folder for parent in self.folder.absolute().parents)]
        paths = [sampled_image(place, item.image) for place in places]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            raise InputError(f"{paths[0]}: no such image; start where the study ran")
        return found

    def load(self, model: str, *, device: str | None = None) -> Model:
        """Load one of the study's models, to be asked as the study asked it.

        Args:
            model: its name in the study.
            device: where it runs; None: as in the study.

        Raises:
            InputError: there is no such model, or its checkpoint is not what it was.
        """
        of_model, config = self._of(model), self.config.models[model]
        options = config.model_dump(exclude={"checkpoint", "batch_size", "map_layers", "device"})
        found = load(
            config.checkpoint, device=device or config.device,
            settings=self._settings(of_model), **options,
        )  # fmt: skip
        made_by = self.provenance(model).get("weights", "")
        if made_by and made_by != found.vlm.weights:
            raise InputError(
                f"{config.checkpoint}: its weights are {found.vlm.weights}, those of the study's "
                f"tables {made_by}; get the checkpoint that the study ran"
            )
        return found

    def provenance(self, model: str) -> dict[str, str]:
        """Provenance of a model's answers: checkpoint, revision, weights, versions."""
        return next(
            dict(one)
            for one in self.results.origins
            if (one.get("stage"), one.get("model")) == ("extract", model)
        )

    def _settings(self, model: ModelResults) -> Settings:
        from vrp.running.image_rankings import read_heavy_places
        from vrp.stages.ablate import read_folds, read_probes

        study = self.config
        probes = model.paths(NEURONS) + model.paths(PREDICTIONS)
        known = len(probes) == 2 and len(model.table(PREDICTIONS.only())) > 0
        groups = dict(self.items.select("item_id", "group").iter_rows())
        return Settings(
            seed=study.seed,
            extract=study.extract,
            scoring=study.scoring,
            consistency=study.consistency,
            p_true=study.p_true.enabled,
            map_layers=study.models[model.name].map_layers,
            heavy_places=read_heavy_places(model.paths(ATTENTION), groups),
            probes=read_probes(probes[0]) if known else {},
            fold_of=read_folds(probes[1]) if known else {},
        )

    def _of(self, model: str) -> ModelResults:
        for one in self.results.models:
            if one.name == model:
                return one
        raise InputError(f"{self.folder}: {unknown_name('model', model, self.models)}")


def _scan(paths: Sequence[Path], lacking: str = "") -> pl.LazyFrame:
    if not paths:
        raise InputError(lacking)
    for path in paths:
        check_table(path)
    return pl.scan_parquet(list(paths))
