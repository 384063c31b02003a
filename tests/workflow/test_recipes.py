"""Every recipe of the page of recipes does what its row says."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from finished_extraction import write_extraction

ROOT = Path(__file__).parents[2]
INPUTS = {"fetch_data", "fetch_model", "sample"}
MODEL_RUNS = {"extract", "blind", "consistency"}
PLANS = {
    "snakemake --cores 2 --until metrics": INPUTS | MODEL_RUNS | {"boxes", "gather", "metrics"},
    "snakemake --cores 2 results/demo/llava/probes.parquet": (
        INPUTS | MODEL_RUNS | {"boxes", "gather", "metrics", "probes"}
    ),
    "snakemake --cores 2 results/demo/llava/answers/000.parquet": INPUTS | {"extract"},
}


def recipes():
    """The commands in the page's table."""
    text = (ROOT / "docs" / "recipes.md").read_text()
    table = text[: text.index("## What reruns")]
    return list(re.findall(r"\| `(snakemake [^`]*)` \|", table))


def test_the_table_was_found():
    assert len(recipes()) >= 6
    assert set(PLANS) <= set(recipes())


@pytest.mark.workflow
@pytest.mark.parametrize("command", recipes())
def test_a_recipe_plans(checkout, command):
    arguments = [word for word in shlex.split(command)[1:] if word != "-n"]
    if "extraction_from=demo" in arguments:
        write_extraction(checkout.folder / "config" / "demo.yaml", checkout.folder)
    result = checkout.run("-n", *arguments)
    assert result.status == 0, result.output
    if command in PLANS:
        assert set(result.planned) == PLANS[command]
    if "extraction_from=demo" in arguments:
        own = {"consistency"} if "consistency=" in command else set()
        assert MODEL_RUNS & set(result.planned) == own
        shutil.rmtree(checkout.folder / "results")
    if "llava" in command:
        assert result.planned["extract"] == 1


@pytest.mark.workflow
@pytest.mark.parametrize("command", PLANS)
def test_a_recipe_runs(checkout, command):
    result = checkout.run(*shlex.split(command)[1:])
    assert result.status == 0, result.output
    again = checkout.run("-n", *shlex.split(command)[1:])
    assert again.planned == {}
