"""Every rule file has the same parts, and the linters have nothing to say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

STAGES = sorted(path.stem for path in (ROOT / "workflow" / "rules").glob("*.smk"))
# `tee` outlives a signal to the whole job: what a stage says as it ends is logged, too.
LOGGED = "2>&1 | (trap '' INT TERM && exec tee {log} >&2)"
RUNS_A_MODEL = {"extract", "blind", "consistency", "mask", "ablate"}


def test_one_file_per_stage():
    included = re.findall(r'"workflow/rules/(\w+)\.smk"', (ROOT / "Snakefile").read_text())
    assert sorted(included) == STAGES
    assert len(STAGES) == 14


@pytest.mark.parametrize("stage", STAGES)
def test_rule_has_all_its_parts(stage):
    text = (ROOT / "workflow" / "rules" / f"{stage}.smk").read_text()
    head, rule = text.split(f"\nrule {stage}:\n")
    rule = rule.split("\nuse rule ")[0]  # one that inherits from it changes a part or two
    assert head.startswith('"""\nThis part of the workflow ')
    assert "REQUIRED INPUTS:" in head
    assert "OUTPUTS:" in head
    assert re.match(r'    """[A-Z].+\."""\n', rule)
    for part in ("log", "benchmark", "threads", "resources", "conda", "params", "shell"):
        assert f"\n    {part}:" in rule
    assert f'    params:\n        *causes_of("{stage}"),\n' in rule
    assert "runtime=" in rule
    assert "mem_mb=" in rule
    assert ("HF_HUB_OFFLINE=1" in rule) == (stage in RUNS_A_MODEL)
    assert ("localrule: True" in rule) == stage.startswith("fetch")
    # The exit status is that of vrp (Snakemake's bash has pipefail), the log is seen as it grows.
    assert rule.rstrip().removesuffix('"""').rstrip().endswith(LOGGED)
    assert "config[" not in rule


@pytest.mark.parametrize("stage", STAGES)
def test_documented_paths_are_the_rules_paths(stage):
    text = (ROOT / "workflow" / "rules" / f"{stage}.smk").read_text()
    head, rule = text.split(f"\nrule {stage}:\n")
    documented = set(re.findall(r"<(?:results|extraction)>/[^\s,:]+", head))
    used = {
        path.replace("{{", "{").replace("}}", "}")
        for path in re.findall(r'"(<(?:res|extr)[^"]+)', rule)
    }
    assert used <= documented


def test_lint_is_clean(checkout):
    result = checkout.run("--lint")
    assert result.status == 0, result.output
    assert "good condition" in result.output


@pytest.mark.skipif(shutil.which("snakefmt", path=BIN) is None, reason="snakefmt not installed")
def test_format_is_clean():
    done = subprocess.run(
        [BIN / "snakefmt", "--check", ROOT / "Snakefile", ROOT / "workflow"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
