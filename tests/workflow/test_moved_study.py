"""A study in a folder of an odd name, moved half-way, ends as one that nobody touched."""

import shutil

import pytest
from study_copy import StudyCopy
from study_tables import differences

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

STUDY = """
study: tiny
results: "$SCRATCH/my results (1)/x'y"
data:
  folder: "data #1"
  scenes: {namespace: tiny, n_pope_images: 6, n_vqa_images: 16}
sample:
  splits:
    - {dataset: pope, split: random, task: existence, count: 12}
    - {dataset: vqa, split: counting, task: counting, count: 8}
models:
  llava: {family: llava, checkpoint: "zoo:llava", device: cpu}
consistency: {k: 2}
metrics: {bootstrap: 100}
probes: {folds: 2, inner_folds: 2, penalties: [0.1], mlp: false, bootstrap: 100}
mask:
  items: 6
  conditions:
    - {kind: top, share: 0.3}
    - {kind: random, share: 0.3}
ablate:
  items: 6
  conditions:
    - {kind: top, count: 5}
    - {kind: random, count: 5, seeds: 1}
effects: {sign_flips: 100}
"""


def start(folder):
    folder.mkdir(parents=True)
    copy = StudyCopy(folder, warm=True)
    (folder / "config" / "tiny.yaml").write_text(STUDY)
    return copy


def run(copy, scratch, *arguments):
    ended = copy.run(
        "--cores", "2", "--configfile", "config/tiny.yaml", *arguments, SCRATCH=str(scratch)
    )
    assert ended.status == 0, ended.output[-5000:]
    return ended


# Two studies from nothing to the report: some minutes.
def test_a_moved_study_ends_as_one_that_nobody_touched(tmp_path):
    plain, odd = start(tmp_path / "plain"), start(tmp_path / "it's $(touch w)" / "project")
    run(plain, tmp_path / "s")
    first, second = tmp_path / "my $HOME;touch w", tmp_path / "other"
    run(odd, first, "--until", "metrics")
    shutil.move(first, second)
    run(odd, second)
    results = second / "my results (1)" / "x'y" / "tiny"
    assert (results / "report.html").is_file()
    assert list(differences(results, tmp_path / "s/my results (1)/x'y/tiny", to_the_bit=True)) == []
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "it's $(touch w)", "s", "other"}
    assert not [*tmp_path.rglob("w")]
    models = [event["stage"] for event in odd.events("start") if event["runs_model"]]
    assert sorted(models) == ["ablate", "blind", "consistency", "extract", "mask"]  # each once
