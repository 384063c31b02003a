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


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_opens_with_what_it_is_for(stage):
    text = (ROOT / "workflow" / "rules" / f"{stage}.smk").read_text()
    head, rule = text.split(f"\nrule {stage}:\n")
    assert head.startswith('"""\nThis part of the workflow ')
    assert re.match(r'    """[A-Z].+\."""\n', rule)


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
