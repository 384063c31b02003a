"""The user's file about the cluster."""

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_vrp_slurm.site import Site, read_site, site_errors

PARTITIONS = {"cpu": {"(null)"}, "gpu": {"gpu:a100:4(S:0-1)", "gpu:h100:8"}}


def test_no_file_is_the_clusters_default(tmp_path):
    assert read_site(None) == Site()
    assert read_site(tmp_path / "absent.yaml") == Site()


def test_every_key(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "account: 1234\ncpu_partition: cpu\ngpu_partition: gpu\ngpu_type: a100\nqos: ''\n"
    )
    assert read_site(path) == Site(
        account="1234", cpu_partition="cpu", gpu_partition="gpu", gpu_type="a100"
    )


def test_jobs_with_and_without_a_gpu_go_to_their_places():
    same = Site(account="mine", qos="normal", gpu_partition="gpu,preempt")
    assert same.for_job(gpu=False) == ("mine", "normal", None)
    assert same.for_job(gpu=True) == ("mine", "normal", "gpu,preempt")
    split = Site(account="mine", gpu_account="mine-gpu", cpu_qos="short", cpu_partition="cpu")
    assert split.for_job(gpu=False) == ("mine", "short", "cpu")
    assert split.for_job(gpu=True) == ("mine-gpu", None, None)
    assert split.describe() == (
        "account mine, gpu_account mine-gpu, cpu_partition cpu, cpu_qos short"
    )
    assert Site().describe() == "nothing is set, the cluster's defaults hold"


def test_a_file_of_comments_only(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("# account: mine\n")
    assert read_site(path) == Site()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("account: [a, b]", "account: expected one name"),
        ("gpu: a100", "unknown key 'gpu'; keys are account, cpu_account, gpu_account"),
        ("- account", "not a mapping"),
        ("account: 'a", "not valid YAML"),
        ("account: 2024-13-45", "not valid YAML"),
        ("account: a\nqos: b\naccount: c", "key 'account' is given twice (lines 1 and 3)"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, words):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(WorkflowError) as error:
        read_site(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (Site(), None),
        (Site(cpu_partition="cpu", gpu_partition="gpu", gpu_type="h100"), None),
        (Site(gpu_type="a100"), None),
        (Site(cpu_partition="cpu,gpu", gpu_partition="gpu, cpu", gpu_type="a100"), None),
        (Site(cpu_partition="cpu,shared"), "no partition 'shared'; it has cpu, gpu"),
        (Site(gpu_partition="gpus"), "no partition 'gpus'; it has cpu, gpu"),
        (Site(gpu_partition="cpu", gpu_type="a100"), "no GPU of type 'a100' in cpu; there is none"),
        (Site(gpu_type="v100"), "no GPU of type 'v100' in any partition; there is a100, h100"),
    ],
)
def test_what_the_cluster_does_not_have(site, words):
    found = site_errors(site, PARTITIONS, where="site.yaml")
    assert (found == []) if words is None else (words in found[0])


def test_the_example_is_one(tmp_path):
    import dataclasses
    import re
    from pathlib import Path

    example = Path(__file__).parents[2] / "workflow" / "profiles" / "slurm" / "site.example.yaml"
    filled = re.sub(r"^# (\w+: )", r"\1", example.read_text(), flags=re.MULTILINE)
    path = tmp_path / "site.yaml"
    path.write_text(filled)
    values = dataclasses.asdict(read_site(path)).values()
    assert None not in values
