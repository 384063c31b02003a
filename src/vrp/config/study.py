"""The whole configuration of a study."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from vrp.config.ablate import AblateConfig
from vrp.config.boxes import BoxesConfig
from vrp.config.consistency import ConsistencyConfig
from vrp.config.data import DataConfig
from vrp.config.effects import EffectsConfig
from vrp.config.explorer import ExplorerConfig
from vrp.config.extract import ExtractConfig
from vrp.config.figures import FiguresConfig
from vrp.config.folder import Folder, Place, expanded, spelled
from vrp.config.mask import MaskConfig
from vrp.config.metrics import MetricsConfig
from vrp.config.models import ModelConfig
from vrp.config.p_true import PTrueConfig
from vrp.config.probes import ProbesConfig
from vrp.config.report import ReportConfig
from vrp.config.sample import SampleConfig, ScoringConfig
from vrp.config.section import Section, section_in
from vrp.config.trace import TraceConfig
from vrp.config.yaml_file import read_yaml
from vrp.data.dataset import Dataset
from vrp.data.datasets import get_dataset
from vrp.errors import InputError
from vrp.extensions import load_extensions


class StudyConfig(Section):
    """A study: items × models × signals × interventions."""

    study: str
    """Name of the study and of its folder under `results`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the study. Every random choice is derived from it and the item's id."""
    results: Folder = "results"
    """Folder of all studies. In this and every other path of the configuration, `~`, `$NAME` and
    `${NAME}` are expanded; `$$` is a dollar sign."""
    extraction_from: Place | None = None
    """Another study under `results`, or its folder, whose extraction is used instead of a new one.
    It is refused unless model, items, code and the keys that the extraction was made with are the
    same. The other study's blank-image run, samples and masking are also used if they would be
    identical, and are otherwise run again. The ablation belongs to the study itself and runs only
    with `ablate.enabled: true`."""
    extensions: tuple[Place, ...] = ()
    """Your own signals, figures, data sets, model families or conditions: Python files, relative to
    the configuration, or entry points of installed packages, that register them."""
    data: DataConfig = DataConfig()
    sample: SampleConfig = SampleConfig()
    boxes: BoxesConfig = BoxesConfig()
    scoring: ScoringConfig = ScoringConfig()
    models: dict[str, ModelConfig] = Field(min_length=1)
    extract: ExtractConfig = ExtractConfig()
    consistency: ConsistencyConfig = ConsistencyConfig()
    p_true: PTrueConfig = PTrueConfig()
    metrics: MetricsConfig = MetricsConfig()
    probes: ProbesConfig = ProbesConfig()
    mask: MaskConfig = MaskConfig()
    ablate: AblateConfig = AblateConfig()
    trace: TraceConfig = TraceConfig()
    effects: EffectsConfig = EffectsConfig()
    figures: FiguresConfig = FiguresConfig()
    report: ReportConfig = ReportConfig()
    explorer: ExplorerConfig = ExplorerConfig()

    @field_validator("study")
    @classmethod
    def _a_folder_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", value):
            raise ValueError("use lower-case letters, digits, - and _ only, 100 at most")
        return value

    @field_validator("models")
    @classmethod
    def _folder_names(cls, value: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        for name in value:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", name) or name in _RESERVED_NAMES:
                raise ValueError(
                    f"model name {name!r}: use up to 100 lower-case letters, digits, - _ "
                    f"and . (and none of {', '.join(sorted(_RESERVED_NAMES))})"
                )
        return value

    @model_validator(mode="before")
    @classmethod
    def _shared_extraction_spares_the_ablation(cls, raw: Any) -> Any:
        # It is the one stage that would ask for a model, and for a GPU, whatever is shared.
        if not isinstance(raw, dict) or raw.get("extraction_from") is None:
            return raw
        ablate = raw.get("ablate", {})
        return {**raw, "ablate": {"enabled": False, **ablate}} if isinstance(ablate, dict) else raw

    @model_validator(mode="after")
    def _sections_agree(self) -> "StudyConfig":
        if self.mask.enabled and "attention" not in self.extract.capture:
            raise ValueError(
                "mask hides the most attended tokens, but extract.capture lacks attention: "
                "add attention to extract.capture, or set mask.enabled to false"
            )
        for name in sorted({split.dataset for split in self.sample.splits}):
            dataset = get_dataset(name)
            if dataset.is_published:
                self._require_origin(dataset)
        return self

    def _require_origin(self, dataset: Dataset) -> None:
        """Raise ValueError where a data set does not come from the origin that is configured."""
        name, data = dataset.name, self.data
        has = {
            "scenes": dataset.scene_images is not None,
            "official": bool(dataset.archives),
            "hub": dataset.hub is not None,
            "local": True,
        }
        if not has[data.origin]:
            *others, last = (origin for origin in ("official", "hub", "local") if has[origin])
            choice = f"{', '.join(others)} or {last}"
            raise ValueError(
                f"sample.splits asks for {name}, {_LACKS_IT[data.origin]}: set data.origin to "
                f"{choice}"
            )
        if data.origin == "hub" and name not in data.hub:
            raise ValueError(
                f"sample.splits asks for {name}, but data.hub names no repository for it: add "
                f"data.hub.{name}"
            )
        if data.origin == "official" and name not in data.official:
            raise ValueError(
                f"sample.splits asks for {name}, but data.official does not: add it there"
            )


_LACKS_IT = {
    "scenes": "which the drawn scenes do not have",
    "official": "which has no official archives",
    "hub": "which is not read from the hub",
}

# Files and folders of a study whose place a model of the same name would take.
_RESERVED_NAMES = frozenset(
    {
        "benchmarks", "boxes.parquet", "config.yaml", "data.json", "effects.parquet", "explorer",
        "explorer.html", "figures", "items.parquet", "logs", "models", "report.html",
        "sampling.json", "summary.json", "trace_effects.parquet",
    }
)  # fmt: skip


def load_study(path: Path | str) -> StudyConfig:
    """Read a configuration file.

    Raises:
        InputError: the file is missing, is no YAML mapping, or has an unknown, wrong or repeated
            key; the message names file, key and the nearest key that exists.
    """
    path = Path(path)
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise InputError(f"{path}: must be a mapping of keys, such as `study: demo`")
    return study_from_mapping(raw, where=str(path), beside=[path.parent])


def study_from_mapping(
    raw: dict[str, Any], *, where: str = "configuration", beside: Sequence[Path] = ()
) -> StudyConfig:
    """Validate a mapping, such as Snakemake's `config`; its extensions are loaded first.

    Args:
        raw: the mapping.
        where: names it in messages.
        beside: folders of the files that it was read from.

    Raises:
        InputError: an unknown or wrong key, or an extension that cannot be loaded, in one line.
    """
    named = raw.get("extensions", ())
    if isinstance(named, list | tuple) and all(isinstance(name, str) for name in named):
        try:
            found = load_extensions(map(expanded, named), beside=beside)
            raw = {**raw, "extensions": [spelled(name) for name in found]}
        except (InputError, ValueError) as error:
            raise InputError(f"{where}: key 'extensions': {error}") from None
    try:
        return StudyConfig.model_validate(raw)
    except ValidationError as error:
        # A misspelt key also makes the right one "missing": name the misspelling.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"unknown key {key!r}{_nearest(first['loc'])}"
        elif first["type"] == "missing":
            message = f"key {key!r} is missing"
        else:
            # A rule between sections belongs to no key: its message names them.
            message = f"key {key!r}: " if key else ""
            message += first["msg"].removeprefix("Value error, ")
            message += "; write it in quotes" if first["type"] == "string_type" else ""
            if not isinstance(first["input"], dict | list):
                message += f" (found {first['input']!r})"
        more = len(error.errors()) - 1
        tail = f" (and {more} more)" if more else ""
        raise InputError(f"{where}: {message}{tail}") from None


def _nearest(location: tuple[int | str, ...]) -> str:
    """The known key nearest to the unknown one, as a remark for the error message."""
    section: type[Section] = StudyConfig
    for part in location[:-1]:
        # A model's name and a place in a list are no keys of the section.
        if field := section.model_fields.get(str(part)):
            section = section_in(field.annotation) or section
    known = list(section.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"
