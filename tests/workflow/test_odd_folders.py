"""Folders of any name: one folder for Snakemake and its jobs, nothing beside it, no command run."""

import pytest
from programs import write_program

from vrp.cli import main

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

STUDY = """
study: tiny
results: "{results}"
data: {{folder: "{data}"}}
sample: {{splits: [{{dataset: pope, split: random, task: existence, count: 6}}]}}
models: {{one: {{family: llava, checkpoint: "zoo:llava", device: cpu}}}}
extract: {{shards: 2}}
"""
ODD = "x'y;touch z$(touch w) * [a] #1 & é"


@pytest.fixture(scope="module")
def odd(tmp_path_factory, checkout_in):
    """A copy of the project in a folder of an odd name, and its parent."""
    parent = tmp_path_factory.mktemp("odd")
    return checkout_in(parent / ODD / "co"), parent


def configure(checkout, **folders):
    folders = {"results": "results", "data": "data/x"} | folders
    file = checkout.folder / "config" / "tiny.yaml"
    file.write_text(STUDY.format(**folders))
    return "--cores", "2", "--configfile", "config/tiny.yaml"


def test_a_study_under_a_variable_in_a_folder_of_an_odd_name(odd):
    checkout, parent = odd
    scratch = parent / f"{ODD} $HOME"
    common = configure(checkout, results="$SCRATCH/my results (1)/x'y", data="${SCRATCH}/d $(w)")
    before = {path.name for path in checkout.folder.iterdir()}
    done = checkout.run(*common, SCRATCH=str(scratch))
    assert done.status == 0, done.output
    results = scratch / "my results (1)" / "x'y" / "tiny"
    assert (results / "report.html").is_file()
    assert (results / "logs" / "extract" / "one" / "001.log").read_text().startswith("extract: ")
    made = {path.name for path in checkout.folder.iterdir()} - before
    assert made == {".snakemake", "cache"}
    assert {path.name for path in parent.iterdir()} == {ODD, scratch.name}
    # By any spelling of it, and with the variable gone since.
    configure(checkout, results=str(results.parent).replace("$", "$$"), data="$SCRATCH/d $(w)")
    again = checkout.run(*common, SCRATCH=str(scratch))
    assert "Nothing to be done" in again.output


@pytest.mark.parametrize(
    ("results", "words"),
    [("$UNSET/out", "$UNSET is not set"), ("a{b}", "braces"), ("-rf", "option"),
     ("a\\nb", "line break"), ("~nobody-x/a", "no home folder")],
)  # fmt: skip
def test_plan_preflight_and_a_dry_run_refuse_alike(odd, results, words, monkeypatch, capsys):
    checkout, _ = odd
    common = configure(checkout, results=results)
    ended = checkout.run(*common, "-n")
    lines = [line for line in ended.output.splitlines() if "Using workflow" not in line]
    assert ended.status == 1
    assert len(lines) == 1
    assert lines[0].startswith("Error in the configuration: config/tiny.yaml: key 'results': ")
    monkeypatch.chdir(checkout.folder)
    for command in ("plan", "preflight"):
        with pytest.raises(SystemExit):
            main([command, "config/tiny.yaml"])
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert lines[0].partition("key ")[2] in said
        assert said.count("\n") == 1
    assert words in lines[0]


@pytest.mark.parametrize(
    ("extra", "file"), [("seed: 1\nseed: 2\n", "config/tiny.yaml"), ("", "my own/profile.yaml")]
)
def test_a_key_given_twice_is_refused_before_anything_runs(odd, extra, file):
    checkout, _ = odd
    common = configure(checkout)
    with (checkout.folder / "config" / "tiny.yaml").open("a") as config:
        config.write(extra)
    (checkout.folder / "my own").mkdir(exist_ok=True)
    twice = "" if extra else "keep-going: true\n"
    (checkout.folder / "my own" / "profile.yaml").write_text(f"retries: 1\n{twice}{twice}")
    ended = checkout.run(*common, "-n", "--profile", "my own")
    assert ended.status == 1
    assert f"Error in the configuration: {file}: key " in ended.output
    assert "is given twice (lines " in ended.output
    assert "Traceback" not in ended.output


def test_a_project_in_a_folder_with_braces_is_refused(tmp_path, checkout_in):
    ended = checkout_in(tmp_path / "a{b}").run("-n")
    assert ended.status == 1
    assert "a{b}: Snakemake reads braces as wildcards; use a folder without any" in ended.output
    assert "Traceback" not in ended.output


# `sbatch` that runs the job at once, and the rest of a cluster without accounting.
CLUSTER = {
    "sinfo": 'case "$*" in *%P*) echo "main*|gpu:4";; *) echo "main|gpu:4";; esac',
    "squeue": 'case "$*" in *%T*) cat {state};; esac',
    "sacct": "exit 1",
    "scancel": "true",
    "srun": 'while [ "${{1#-}}" != "$1" ]; do shift; done; exec "$@"',
    "sbatch": """
for part in "$@"; do case "$part" in --wrap=*) script="${{part#--wrap=}}";; esac; done
id=$(($(wc -l <{state}) + 1))
export SCRATCH=/elsewhere HOME=/elsewhere
if sh -c "$script" >>{state}.log 2>&1 </dev/null; then end=COMPLETED; else end=FAILED; fi
echo "$id|$end|main|None" >>{state}
echo $id""",
}


def test_jobs_on_a_cluster_get_the_folders_of_the_login_node(odd, tmp_path):
    """Whatever `~` and the variables mean on a node; no quote or dollar sign reaches a shell."""
    checkout, parent = odd
    state = tmp_path / "state"
    state.touch()
    for name, script in CLUSTER.items():
        write_program(checkout.folder / "bin" / name, script.format(state=state))
    configure(checkout)
    scratch = parent / f"{ODD} cluster"
    done = checkout.run(
        "--executor", "vrp-slurm", "--jobs", "1", "--configfile", "config/tiny.yaml",
        "--until", "sample", "--vrp-slurm-init-seconds-before-status-checks", "1",
        "--config", "results=$SCRATCH/it's $(touch w) $$x", "data={folder: '~/d'}",
        SCRATCH=str(scratch),
    )  # fmt: skip
    log = state.with_name("state.log")
    assert done.status == 0, done.output + (log.read_text() if log.exists() else "")
    assert (scratch / "it's $(touch w) $x" / "tiny" / "items.parquet").is_file()
    assert not (checkout.folder / "w").exists()
