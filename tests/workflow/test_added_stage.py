"""What a new table and a new stage touch: a table three files, a stage five; all else follows."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml

from vrp.config.study import study_from_mapping
from vrp.study import graph
from vrp.study.table_origins import expected_provenance
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import write_table

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

TABLE = {
    "src/vrp/tables/word_counts.py": (
        "",
        '''"""`<model>/word_counts.parquet`: how long the questions are."""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, integer, text

WORD_COUNTS = TableSchema(
    name="word_counts",
    key=("item_id",),
    columns=pa.schema(
        [column("item_id", text, "item"), column("n_words", integer, "words of the question")]
    ),
)
''',
    ),
    "src/vrp/study/graph.py": (
        "# Stages. The keys",
        """WORD_COUNTS = Artifact(
    "word_counts", "{model}/word_counts.parquet", "words of every question",
    "vrp.tables.word_counts:WORD_COUNTS", _items, lambda sizes: _ID + 4,
)  # fmt: skip

# Stages. The keys""",
    ),
}
STAGE = {
    "src/vrp/config/words.py": (
        "",
        '''"""Words of the questions."""

from pydantic import Field

from vrp.config.section import Section


class WordsConfig(Section):
    """Which words of a question count."""

    min_letters: int = Field(default=1, ge=1)
    """Letters of the shortest word that counts."""
''',
    ),
    "src/vrp/config/study.py": (
        "    figures: FiguresConfig",
        "    words: WordsConfig = WordsConfig()\n    figures: FiguresConfig",
    ),
    "src/vrp/study/graph.py": (
        '    Stage(\n        "figures",',
        """    Stage(
        "count_words",
        "count the words of every question",
        per="model",
        reads=(ITEMS,),
        writes=(WORD_COUNTS,),
        keys=("words",),
        cost=Cost(0.6, 0, lambda i: 0),
    ),
    Stage(
        "figures",""",
    ),
    "src/vrp/stages/count_words.py": (
        "",
        '''"""How many words every question has."""

from vrp.study.context import StageContext
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.items import ITEMS
from vrp.tables.word_counts import WORD_COUNTS


def run(context: StageContext) -> None:
    """Write the number of words of every question."""
    items = read_table(context.input_path("items"), ITEMS)
    least = context.study.words.min_letters
    columns = {
        "item_id": items["item_id"].to_list(),
        "n_words": [
            sum(len(word) >= least for word in question.split()) for question in items["question"]
        ],
    }
    write_table(
        context.output_path("word_counts"), WORD_COUNTS, columns, provenance=context.provenance
    )
''',
    ),
    "workflow/rules/count_words.smk": (
        "",
        '''"""
This part of the workflow counts the words of the questions.
"""


rule count_words:
    """Count the words of every question, for one model."""
    input:
        **RULES.inputs("count_words"),
    output:
        **RULES.outputs("count_words"),
    log:
        RULES.log("count_words"),
    benchmark:
        RULES.benchmark("count_words")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("count_words"),
    params:
        *RULES.rerun_params("count_words"),
        study=SNAPSHOT,
    shell:
        RULES.command("count_words")
''',
    ),
}
STUDY = """
study: tiny
models:
  one: {family: llava, checkpoint: "zoo:llava"}
  two: {family: qwen2_vl, checkpoint: "zoo:qwen2_vl"}
words: {min_letters: 2}
"""


@pytest.fixture(scope="module")
def extended(checkout):
    """A checkout with one more table and one more stage, which writes it."""
    assert len(TABLE) <= 3 - 1  # and the stage that writes it
    assert len(STAGE) <= 5
    for edits in (TABLE, STAGE):
        for path, (old, new) in edits.items():
            if not old:
                assert not (checkout.folder / path).exists()
                (checkout.folder / path).write_text("")
            checkout.edit(path, old, new)
    imported = "from vrp.config.words import WordsConfig\n"
    checkout.edit("src/vrp/config/study.py", "from vrp.", f"{imported}from vrp.")
    (checkout.folder / "config" / "tiny.yaml").write_text(STUDY)
    return checkout


def vrp(extended, *arguments):
    """Run the real `vrp` of the copy."""
    done = subprocess.run(
        [sys.executable, "-m", "vrp", *arguments],
        cwd=extended.folder, env={"PYTHONPATH": str(extended.folder / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_snakemake_runs_it_and_asks_for_its_table(extended):
    done = extended.run("--cores", "2", "--configfile", "config/tiny.yaml")
    assert done.status == 0, done.output
    assert (extended.folder / "results/tiny/two/word_counts.parquet").is_file()


def test_a_key_of_its_section_reruns_it_and_nothing_else(extended):
    change = ("--config", "words={min_letters: 3}")
    plan = extended.run("-n", "--configfile", "config/tiny.yaml", *change)
    assert plan.planned == {"count_words": 2}


def test_status_counts_it(extended):
    status = json.loads(vrp(extended, "status", "config/tiny.yaml", "--json"))
    stages = [one for one in status["stages"] if one["stage"] == "count_words"]
    assert {one["model"]: (one["done"], one["jobs"]) for one in stages} == {
        "one": (1, 1), "two": (1, 1),
    }  # fmt: skip


def test_the_plan_counts_it(extended):
    vrp(extended, "plan", "config/tiny.yaml", "--json", "plan.json")
    plan = json.loads((extended.folder / "plan.json").read_text())
    assert "count_words" in {stage["stage"] for stage in plan["stages"]}


def test_it_runs_by_hand(extended, tmp_path):
    items, counts = tmp_path / "items.parquet", tmp_path / "counts.parquet"
    row = {name: [""] for name in ITEMS.columns.names} | {
        "item_id": ["own/a/1"], "question": ["Is it a dog ?"], "answers": [["yes"]],
    }  # fmt: skip
    config = yaml.safe_load((extended.folder / "config" / "tiny.yaml").read_text())
    study = study_from_mapping({k: v for k, v in config.items() if k != "words"})
    write_table(items, ITEMS, row, provenance=expected_provenance(study, graph.STAGE["sample"]))
    vrp(extended, "count-words", "--config", "config/tiny.yaml", "--model", "one",
        "--items", str(items), "--word-counts", str(counts))  # fmt: skip
    assert pq.read_table(counts)["n_words"].to_pylist() == [3]  # not "a" and "?"


def test_help_names_it(extended):
    text = vrp(extended, "count-words", "--help")
    assert "--word-counts PATH" in text
    assert "count-words" in vrp(extended, "--help")
