"""What each stage's result depends on, and that nothing escapes what is declared."""

import ast
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import vrp
from vrp.config.study import study_from_mapping
from vrp.source.content import content_of
from vrp.source.definitions import Definition
from vrp.study import digests
from vrp.study.graph import STAGE

FOLDER = Path(vrp.__file__).parent
STAGES = tuple(STAGE)
MODEL_RUNS = ("extract", "blind", "consistency", "mask", "ablate")
STUDY = study_from_mapping(
    {
        "study": "tiny",
        "models": {
            "one": {"family": "llava", "checkpoint": "zoo:llava"},
            "two": {"family": "paligemma", "checkpoint": "zoo:paligemma"},
        },
    }
)


def declared() -> list[str]:
    return [*digests.CANNOT_CHANGE_A_NUMBER, *digests.MESSAGE_ARGUMENTS, *digests.dynamic_reads()]


@pytest.mark.parametrize("name", declared())
def test_what_is_declared_exists(name):
    """Rename it here, too, where a definition is renamed or moved; remove it where it is gone."""
    module, _, inner = name.partition(":")
    if inner == "*":
        assert digests.sources().module(module) is not None
    else:
        assert isinstance(digests.sources().definition(name), Definition)


def test_every_declaration_has_a_reason():
    assert all(digests.CANNOT_CHANGE_A_NUMBER.values())


@pytest.mark.parametrize("name", digests.dynamic_reads())
def test_what_is_declared_as_read_exists(name):
    assert all(digests.sources().definition(entry) for entry in digests.dynamic_reads()[name])
    assert len(digests.dynamic_reads()[name]) >= 4


@pytest.mark.parametrize("stage", MODEL_RUNS)
def test_a_model_run_depends_on_its_own_family_alone(stage):
    one = {name.partition(":")[0] for name in digests.job_definitions(STUDY, stage, "one")}
    two = {name.partition(":")[0] for name in digests.job_definitions(STUDY, stage, "two")}
    families = {name for name in one | two if name.startswith("vrp.vlm.families.")}
    assert families == {f"vrp.vlm.families.{family}" for family in ("base", "llava", "paligemma")}
    assert "vrp.vlm.families.llava" in one - two
    assert "vrp.vlm.families.paligemma" in two - one


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["metrics", "probes", "effects", "figures", "report", "sample"])
def test_a_stage_without_a_model_depends_on_no_family(stage):
    names = digests.stage_definitions(stage)
    assert not [name for name in names if name.startswith(("vrp.vlm.families", "vrp.vlm.loading"))]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_shared_does_not_hang_on_which_models_there_are(stage):
    shared = digests.shared_definitions(STUDY, stage)
    fewer = STUDY.model_copy(update={"models": {"one": STUDY.models["one"]}})
    assert digests.shared_definitions(fewer, stage) == shared
    for model in STUDY.models:
        assert shared.items() <= digests.job_definitions(STUDY, stage, model).items()


@pytest.mark.parametrize("stage", ["fetch_data", "sample", "figures", "report"])
def test_a_stage_depends_on_the_data_sets_of_its_study(stage):
    def names(study):
        found = digests.job_definitions(study, stage)
        return {name.partition(":")[0].rpartition(".")[2] for name in found if ":DATASET" in name}

    assert names(STUDY) == {"pope", "vqa"}
    split = {"dataset": "own", "split": "all", "task": "open", "count": 10}
    raw = STUDY.model_dump(mode="json") | {
        "data": {"origin": "local"},
        "sample": {"splits": [split]},
    }
    assert names(study_from_mapping(raw)) == {"pope", "vqa", "own"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_entry(stage):
    names = digests.stage_definitions(stage)
    assert f"vrp.stages.{stage}:run" in names
    assert f"vrp.study.graph:STAGE[{stage}]" in names


def test_what_the_graph_hands_a_stage_is_part_of_its_digest():
    stage = STAGE["extract"]
    of_stage = digests._handed_over(stage)
    assert digests._handed_over(replace(stage, help="another text", cost=None)) == of_stage
    assert digests._handed_over(replace(stage, shards_key="mask.shards")) != of_stage
    assert digests._handed_over(replace(stage, reads=stage.reads[1:])) != of_stage


def test_the_digest_of_a_job_is_that_of_its_definitions():
    codes = {digests.code_digest(STUDY, "extract", model) for model in STUDY.models}
    assert len(codes) == 2
    assert digests.code_digest(STUDY, "metrics", "one") == digests.code_digest(
        STUDY, "metrics", "two"
    )


@pytest.mark.slow
def test_every_file_that_ships_is_part_of_a_definition():
    """Weights aside, which a model's manifest accounts for."""
    root = FOLDER.parent
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in FOLDER.rglob("*.py")
    }
    found = digests.sources()
    opened = {
        file
        for name in modules
        if (module := found.module(name)) is not None
        for outer in module.definitions.values()
        for definition in (outer, *outer.members.values())
        for file in content_of(definition).files.values()
    }
    shipped = {
        path
        for pattern in ("*/templates/*", "planning/checkpoints/*.json")
        for path in FOLDER.glob(pattern)
        if not path.name.startswith(".") and not path.name.endswith("~")
    }
    assert len(shipped) >= 8
    assert opened == shipped


def test_a_template_is_part_of_the_report():
    assert "vrp.report:templates/style.css" in digests.stage_definitions("report")
    assert "vrp.report:templates/style.css" not in digests.stage_definitions("figures")


@pytest.fixture
def extension(monkeypatch):
    """An extension, which is read and not imported."""
    path = Path(__file__).parents[1] / "support" / "own_extension.py"
    monkeypatch.setattr(digests, "loaded_extensions", lambda: {"own_extension": path})


def of_the_extension(stage, model="", **changes):
    study = STUDY.model_copy(update=changes)
    found = digests.job_definitions(study, stage, model)
    return {name.partition(":")[2] for name in found if name.startswith("own_extension:")}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_what_an_extension_registers_counts_where_it_is_used(extension, stage):
    signals = {"<register_signal answer_count>", "answer_count"}
    shown = {"<register_figure answer_counts>", "draw", "DISTINCT"}
    expected = {"metrics": signals, "probes": signals, "figures": signals | shown}
    expected["report"] = expected["figures"]
    expected["explorer"] = signals
    assert of_the_extension(stage) == expected.get(stage, set())


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fetch_data", "sample", "figures", "report"])
def test_a_data_set_of_an_extension_counts_where_it_is_asked_for(extension, stage):
    assert "read_colours" not in of_the_extension(stage)
    split = SimpleNamespace(dataset="colours")
    asked = of_the_extension(stage, sample=SimpleNamespace(splits=[split]))
    assert {"<register_dataset colours>", "read_colours"} <= asked


@pytest.mark.parametrize("stage", MODEL_RUNS)
def test_a_family_of_an_extension_counts_for_its_models(extension, stage):
    polite = STUDY.models["one"].model_copy(update={"family": "polite"})
    models = {**STUDY.models, "three": polite}
    assert of_the_extension(stage, "one", models=models) == set()
    assert of_the_extension(stage, "three", models=models) == {"<register_family>", "Polite"}
    study = STUDY.model_copy(update={"models": models})
    assert "vrp.vlm.families.llava:Llava" in digests.job_definitions(study, stage, "three")


def test_a_condition_of_an_extension_counts_where_it_is_asked_for(extension):
    first, *others = STUDY.mask.conditions
    upper = first.model_copy(update={"kind": "upper"})
    mask = STUDY.mask.model_copy(update={"conditions": (first, upper, *others)})
    for stage, model in (("mask", "one"), ("effects", "")):
        assert of_the_extension(stage, model) == set()
        named = of_the_extension(stage, model, mask=mask)
        assert named == {"<register_condition upper>", "upper_half"}
    assert of_the_extension("ablate", "one", mask=mask) == set()


# Ways to reach what no text names: attributes of any object, and built-in functions.
BY_ATTRIBUTE = {
    "import_module", "iter_modules", "entry_points", "attrgetter", "methodcaller", "__dict__",
    "__subclasses__", "get_type_hints", "__annotations__",
}  # fmt: skip
BY_NAME = {"globals", "locals", "vars", "eval", "exec", "__import__", "__file__", "__path__"}
# Definitions that use one and reach no definition by it, or only what is declared → why.
HARMLESS = {
    "vrp.data.datasets:_MODULES": "names of the modules that get_dataset reads",
    "vrp.data.datasets:get_dataset": "declared",
    "vrp.plots.figures:_MODULES": "names of the modules that _from_module reads",
    "vrp.plots.figures:_from_module": "declared",
    "vrp.study.command:run_stage": "declared",
    "vrp.vlm.families:get_family": "declared",
    "vrp.zoo:zoo_checkpoint": "a checkpoint's files, which its manifest states",
}


def dynamic_places(definition: Definition) -> set[str]:
    """What a definition uses to reach others by names that are made up while running."""
    found: set[str] = set()
    for root in definition.nodes:
        methods = root.body if isinstance(root, ast.ClassDef) else ()
        inside = {id(part) for method in methods for part in ast.walk(method) if part is not root}
        for node in ast.walk(root):
            if id(node) in inside and definition.members:
                continue  # methods are definitions of their own
            match node:
                case ast.Attribute(attr=name) if name in BY_ATTRIBUTE:
                    found.add(name)
                case ast.Name(id=name) if name in BY_NAME | BY_ATTRIBUTE:
                    found.add(name)
                # A name that stands somewhere as a whole string counts by that string.
                case ast.Call(func=ast.Name(id=name), args=[_, ast.JoinedStr() | ast.BinOp(), *_]):
                    found |= {name} & {"getattr", "setattr", "hasattr"}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_reached_by_a_made_up_name_that_is_not_declared(stage):
    reached = digests.reach_stage(stage).definitions
    places = {name: dynamic_places(definition) for name, definition in reached.items()}
    assert {name: found for name, found in places.items() if found and name not in HARMLESS} == {}


@pytest.mark.slow
def test_no_class_registers_its_subclasses():
    """A subclass that nothing names would then be used, and not counted."""
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert not any(word.arg == "metaclass" for word in node.keywords), path
                names = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                assert "__init_subclass__" not in names, path


def test_what_is_harmless_is_still_there():
    reached = {name for stage in STAGES for name in digests.reach_stage(stage).definitions}
    assert reached >= HARMLESS.keys()


def test_params_name_exactly_the_definitions_that_differ():
    before = {
        "vrp.vlm.attention_tap:attention_rows": "aa", "vrp.vlm.attention_tap:_mean": "bb",
        "vrp.stats.auroc:auroc": "cc", "vrp.stats.auroc:gone": "dd",
    }  # fmt: skip
    now = before | {"vrp.vlm.attention_tap:attention_rows": "ee", "vrp.report:page.html": "ff"}
    del now["vrp.stats.auroc:gone"]

    def params(definitions: dict[str, str]) -> list[str]:
        pieces = digests.by_module(definitions).items()
        return [repr({name: names}) for name, names in pieces] + ["{'seed': 0}", "'text'", "<x>"]

    assert digests.changed_definitions(params(before), params(now)) == [
        "vrp.report:page.html", "vrp.stats.auroc:gone", "vrp.vlm.attention_tap:attention_rows",
    ]  # fmt: skip
    assert digests.changed_definitions(params(now), params(now)[::-1]) == []
    # The same where pieces share one param, as those of a model do.
    together = [repr(digests.by_module(now) | {"models.one.dtype": "float32"})]
    assert digests.changed_definitions(params(now), together) == []
