"""Every check of the preflight, with commands that answer, fail, or never come back."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import write_program

from vrp.cli import main
from vrp.data.file_digest import file_sha256
from vrp.planning import preflight as module
from vrp.planning.external_commands import run_command
from vrp.planning.installed_versions import check_versions
from vrp.planning.preflight import Check, gpu_memories, preflight, quota_left
from vrp.zoo import zoo_checkpoint

Commands = Callable[..., None]
GIB = 2**30


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Put commands of the given shell text on a PATH that has no others of their kind."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "sleep", "cat", "echo"):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    monkeypatch.setenv("PATH", str(folder))

    def put(**texts: str) -> None:
        for name, text in texts.items():
            write_program(folder / name.replace("_", "-"), text)

    return put


@pytest.fixture
def study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Commands
) -> Callable[..., Path]:
    """A folder to work in, and a maker of configurations there; offline, with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def make(**keys: Any) -> Path:
        splits = [{"dataset": "pope", "split": "random", "task": "existence", "count": 5}]
        plain = {
            "study": "small",
            "data": {"origin": "scenes", "folder": "data"},
            "sample": {"splits": splits},
            "models": {"tiny": {"family": "llava", "checkpoint": "zoo:llava", "device": "cpu"}},
            **keys,
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(plain))
        return path

    return make


LARGE = {
    "large": {
        "family": "llava",
        "checkpoint": "llava-hf/llava-1.5-7b-hf",
        "revision": "b" * 40,
        "dtype": "bfloat16",
    }
}
ANSWERING = {
    "sinfo": "echo 'cpu*|up|(null)'; echo 'gpu|up|gpu:4'; echo 'old|down|gpu:8'",
    "sbatch": "echo slurm 23.11",
    "scancel": "echo slurm 23.11",
    "sacct": "echo '1|COMPLETED'",
    "squeue": "echo '1|RUNNING'",
}


def named(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def profile(folder: Path, **keys: str) -> str:
    place = folder / "cluster"
    place.mkdir(exist_ok=True)
    (place / "profile.yaml").write_text(yaml.safe_dump({"executor": "slurm"} | keys))
    return str(place)


# The whole


def test_a_study_of_embedded_models_passes_on_any_machine(study: Any) -> None:
    checks = preflight(study())
    assert not [check.line for check in checks if check.failed]
    assert {check.name for check in checks} == {
        "config", "environment", "results", "model tiny", "licence of tiny", "data", "folds",
        "disk", "quota", "scheduler", "GPU",
    }  # fmt: skip
    assert named(checks, "model tiny").status == "ok"
    assert "no model of this study needs one" in named(checks, "GPU").detail


def test_the_command_exits_1_where_a_check_failed(
    study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["preflight", str(study())])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "skipped") for line in lines)
    with pytest.raises(SystemExit) as ended:
        main(["preflight", str(study(models=LARGE))])
    assert ended.value.code == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert failed
    assert all(" -> " in line for line in failed)


def test_a_wrong_key_is_the_only_line(study: Any) -> None:
    (check,) = preflight(study(sed=1))
    assert check.failed
    assert "did you mean 'seed'" in check.detail


def test_nothing_is_written(study: Any, tmp_path: Path) -> None:
    config = study(models=LARGE)
    before = sorted(path for path in tmp_path.rglob("*"))
    preflight(config, profile=None)
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_it_loads_no_model_library(study: Any, tmp_path: Path) -> None:
    config = study()
    code = (
        "import sys; from pathlib import Path; from vrp.planning.preflight import preflight; "
        f"preflight(Path({str(config)!r})); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Folder, environment


@pytest.mark.skipif(os.geteuid() != 0 and not Path("/proc/self").exists(), reason="needs /proc")
def test_a_results_folder_that_cannot_be_written(study: Any) -> None:
    check = named(preflight(study(results="/proc/results")), "results")
    assert check.failed
    assert "`results`" in check.remedy


def test_versions_are_compared_with_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    assert check_versions(lock).n_pinned == 0
    lock.write_text("pydantic==0.1\nnot-installed-and-not-needed==1.0\npyyaml==6.0.3\n")
    found = check_versions(lock)
    assert found.n_pinned == 2
    assert [problem for problem in found.problems if problem.startswith("pydantic ")]
    assert not [problem for problem in found.problems if "not-needed" in problem]


def test_other_versions_fail_with_their_names(study: Any, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("pydantic==0.1\n")
    check = named(preflight(study()), "environment")
    assert check.failed
    assert "locked: 0.1" in check.detail


def test_a_build_for_a_gpu_is_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cu130")
    (tmp_path / "requirements.lock").write_text("torch==2.13.0\n")
    assert check_versions(tmp_path / "requirements.lock").problems == ()


# Checkpoints and licences


def put_into_cache(cache: Path, *, without: str = "") -> Path:
    """The embedded model as if it were the hub's."""
    snapshot = cache / "models--llava-hf--llava-1.5-7b-hf" / "snapshots" / ("b" * 40)
    shutil.copytree(zoo_checkpoint("llava"), snapshot)
    if without:
        (snapshot / without).unlink()
    return snapshot


def test_a_checkpoint_that_was_not_fetched(study: Any) -> None:
    check = named(preflight(study(models=LARGE)), "model large")
    assert check.failed
    assert "b" * 40 in check.detail
    assert "vrp fetch" in check.remedy


def test_a_checkpoint_at_another_revision_is_not_it(study: Any, tmp_path: Path) -> None:
    put_into_cache(tmp_path / "hub")
    models = {"large": {**LARGE["large"], "revision": "c" * 40}}
    assert named(preflight(study(models=models)), "model large").failed
    assert named(preflight(study(models=LARGE)), "model large").status == "ok"


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json"])
def test_a_checkpoint_that_lacks_a_file(study: Any, tmp_path: Path, lost: str) -> None:
    put_into_cache(tmp_path / "hub", without=lost)
    check = named(preflight(study(models=LARGE)), "model large")
    assert check.failed


def test_a_checkpoint_folder_that_is_not_there_cannot_be_fetched(study: Any) -> None:
    models = {"own": {"family": "llava", "checkpoint": "./no/such/folder"}}
    check = named(preflight(study(models=models)), "model own")
    assert check.failed
    assert "does not exist" in check.detail
    assert "fetch" not in check.line
    assert "models.own.checkpoint" in check.remedy


def test_outside_the_project_no_versions_are_compared_and_that_is_said(study: Any) -> None:
    check = named(preflight(study()), "environment")
    assert check.status == "skipped"
    assert "were not compared" in check.line


def test_weights_that_were_cut_short(study: Any, tmp_path: Path) -> None:
    weights = put_into_cache(tmp_path / "hub") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1_000])
    check = named(preflight(study(models=LARGE)), "model large")
    assert check.failed
    assert "cut short" in check.detail


def test_a_licence_is_not_asked_for_offline(study: Any) -> None:
    check = named(preflight(study(models=LARGE)), "licence of large")
    assert check.status == "skipped"
    assert "offline mode" in check.detail


def test_a_licence_that_was_not_accepted(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vrp.errors import InputError

    def refuse(self: Any, repo_id: str) -> None:
        raise InputError(f"checkpoint {repo_id}: its licence was not accepted")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", refuse)
    check = named(preflight(study(models=LARGE)), "licence of large")
    assert check.failed
    assert "accept it" in check.remedy


def test_a_hub_that_never_answers_is_skipped_in_time(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda self, repo_id: time.sleep(30))
    monkeypatch.setattr(module, "_NETWORK_SECONDS", 0.2)
    check = named(preflight(study(models=LARGE)), "licence of large")
    assert check.status == "skipped"
    assert "does not answer" in check.detail


# Data


def test_files_of_ones_own_that_are_not_there(study: Any, tmp_path: Path) -> None:
    config = study(data={"origin": "local", "folder": "data"})
    check = named(preflight(config), "data")
    assert check.failed
    assert "coco_pope_random.json" in check.detail
    (put_pope(tmp_path / "data").parents[1] / "val2014" / "1.jpg").unlink()
    check = named(preflight(config), "data")
    assert check.failed
    assert "holds no image" in check.detail
    image = tmp_path / "data" / "val2014" / "deep" / "1.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"")
    check = named(preflight(config), "data")
    assert check.status == "ok"
    assert "1 images" in check.detail


def test_too_few_answers_for_the_official_rule(study: Any, tmp_path: Path) -> None:
    splits = [{"dataset": "own", "split": "shop", "task": "open", "count": 1}]
    row = {"image": "1.jpg", "question": "What?", "answers": ["red", "red"]}
    put_pope(tmp_path / "data")
    (tmp_path / "data" / "questions.jsonl").write_text(json.dumps(row) + "\n")
    keys = {"data": {"origin": "local", "folder": "data"}, "sample": {"splits": splits}}
    assert named(preflight(study(**keys)), "data").status == "ok"
    check = named(preflight(study(**keys, scoring={"vqa_rule": "official"})), "data")
    assert check.failed
    assert "usable 0 (dropped: 1 no answer could be right)" in check.line
    assert "scoring.vqa_rule: normalised" in check.line
    low = {"vqa_rule": "official", "vqa_threshold": 0.3}
    assert named(preflight(study(**keys, scoring=low)), "data").status == "ok"


def test_textvqa_has_a_folder_of_images_of_its_own(study: Any, tmp_path: Path) -> None:
    splits = [
        {"dataset": "textvqa", "split": "val", "task": "text", "count": 5},
        {"dataset": "own", "split": "shop", "task": "open", "count": 5},
    ]
    config = study(data={"origin": "local", "folder": "data"}, sample={"splits": splits})
    files = {
        "textvqa/TextVQA_0.5.1_val.json": "TextVQA_0.5.1_val.json is not there and 1 more",
        "questions.jsonl": "questions.jsonl is not there",
        "val2014/1.jpg": "data/train_images holds no image",
        "train_images/003a8ae2ef43b901.jpg": "data/train_images holds no image",
    }
    for name, words in files.items():
        check = named(preflight(config), "data")
        assert check.failed
        assert words in check.detail
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    answers = ["red"] * 10
    document = {
        "data": [
            {"question_id": i, "image_id": "003a8ae2ef43b901", "question": f"what {i}?",
             "answers": answers}
            for i in range(5)
        ]
    }  # fmt: skip
    (tmp_path / "data/textvqa/TextVQA_0.5.1_val.json").write_text(json.dumps(document))
    rows = [{"image": "1.jpg", "question": f"What {i}?", "answers": answers} for i in range(5)]
    (tmp_path / "data/questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    check = named(preflight(config), "data")
    assert (check.status, check.detail) == ("ok", "2 question files and 2 images in data")


def test_data_that_the_workflow_fetches(study: Any) -> None:
    check = named(preflight(study(data={"origin": "official", "folder": "data"})), "data")
    assert check.failed
    assert "vrp fetch" in check.remedy


def put_pope(data: Path) -> Path:
    """A question file of six rows, and an image, where the configuration looks for them."""
    row = {"image": "1.jpg", "label": "yes"}
    lines = [json.dumps(row | {"question_id": i, "text": f"Is there a {i}?"}) for i in range(6)]
    for name in ("pope/coco_pope_random.json", "val2014/1.jpg"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("\n".join(lines))
    return data / "pope" / "coco_pope_random.json"


def test_a_file_that_lacks_rows_is_refused(study: Any, tmp_path: Path) -> None:
    put_pope(tmp_path / "data")
    splits = [{"dataset": "pope", "split": "random", "task": "existence", "count": 7}]
    config = study(data={"origin": "local", "folder": "data"}, sample={"splits": splits})
    check = named(preflight(config), "data")
    assert check.failed
    assert "pope random: asked for 7 items, found 6, usable 6" in check.detail


@pytest.mark.parametrize("origin", ["local", "scenes"])
def test_a_misspelt_split_is_refused_with_what_is_there(
    study: Any, tmp_path: Path, origin: str
) -> None:
    put_pope(tmp_path / "data")
    splits = [{"dataset": "pope", "split": "randm", "task": "existence", "count": 1}]
    config = study(data={"origin": origin, "folder": "data"}, sample={"splits": splits})
    [check] = preflight(config)
    assert check.failed
    for words in ("unknown split of pope 'randm'", "did you mean 'random'", "popular",
                  "files there: coco_pope_random.json"):  # fmt: skip
        assert words in check.detail


def test_a_missing_file_is_told_from_those_that_are_there(study: Any, tmp_path: Path) -> None:
    put_pope(tmp_path / "data")
    splits = [{"dataset": "pope", "split": "popular", "task": "existence", "count": 5}]
    config = study(data={"origin": "local", "folder": "data"}, sample={"splits": splits})
    check = named(preflight(config), "data")
    assert check.failed
    assert "popular.json is not there (its folder has coco_pope_random.json)" in check.detail


def test_more_than_the_drawn_scenes_have_is_refused(study: Any, tmp_path: Path) -> None:
    put_pope(tmp_path / "data")  # of an earlier study: not looked at, since scenes are drawn anew

    def check(count: int) -> Any:
        splits = [{"dataset": "pope", "split": "random", "task": "existence", "count": count}]
        scenes = {"n_pope_images": 12, "n_vqa_images": 12}
        data = {"origin": "scenes", "folder": "data", "scenes": scenes}
        return named(preflight(study(data=data, sample={"splits": splits})), "data")

    assert check(72).status == "ok"
    assert check(73).failed
    assert "asked for 73 items, the 12 images of data.scenes.n_pope_images have 72" in (
        check(73).detail
    )


def test_a_split_with_a_file_of_its_own_may_have_any_name(study: Any, tmp_path: Path) -> None:
    path = put_pope(tmp_path / "data")
    path.rename(path.with_name("coco_pope_mine.json"))
    splits = [{"dataset": "pope", "split": "mine", "task": "existence", "count": 6}]
    config = study(data={"origin": "local", "folder": "data"}, sample={"splits": splits})
    assert named(preflight(config), "data").status == "ok"


def test_a_question_file_that_links_out_of_the_data_folder_is_refused(
    study: Any, tmp_path: Path
) -> None:
    path = put_pope(tmp_path / "data")
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    check = named(preflight(study(data={"origin": "local", "folder": "data"})), "data")
    assert check.failed
    assert "a link that leaves the data folder" in check.detail


@pytest.mark.parametrize("as_link", [True, False])
def test_a_shared_image_folder_is_accepted(study: Any, tmp_path: Path, as_link: bool) -> None:
    images = put_pope(tmp_path / "data").parents[1] / "val2014"
    shared = tmp_path / "shared"
    images.rename(shared)
    if as_link:
        images.symlink_to(shared)
    named_images = "val2014" if as_link else str(shared)
    data = {"origin": "local", "folder": "data", "images": named_images}
    check = named(preflight(study(data=data)), "data")
    assert (check.status, check.detail) == ("ok", "1 question files and 1 images in data")


def test_own_lines_that_forgot_their_answers_are_refused(study: Any, tmp_path: Path) -> None:
    put_pope(tmp_path / "data")
    rows = [{"image": "1.jpg", "question": f"What {i}?", "answers": ["a"]} for i in range(3)]
    del rows[1]["answers"]
    path = tmp_path / "data" / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    splits = [{"dataset": "own", "split": "shop", "task": "open", "count": 2}]
    config = study(data={"origin": "local", "folder": "data"}, sample={"splits": splits})
    check = named(preflight(config), "data")
    assert check.failed
    assert "questions.jsonl, line 2: key 'answers' is missing" in check.detail
    path.write_text("\n".join(json.dumps(row | {"answers": None}) for row in rows))
    check = named(preflight(config), "data")
    assert check.status == "ok"
    assert "3 questions of own shop have no `answers`: they are asked, and not judged" in check.line


def test_fewer_items_than_folds_are_refused_before_anything_is_read(study: Any) -> None:
    splits = [{"dataset": "pope", "split": "random", "task": "existence", "count": 4}]
    [check] = preflight(study(sample={"splits": splits}))
    assert check.failed
    assert "probes.folds: 5 folds need as many images" in check.detail
    assert "has 4 at most" in check.detail
    assert (
        named(preflight(study(sample={"splits": splits}, probes={"folds": 4})), "folds").status
        == "ok"
    )


def test_fewer_images_than_folds_are_refused(study: Any, tmp_path: Path) -> None:
    put_pope(tmp_path / "data")
    config = study(data={"origin": "local", "folder": "data"})
    checks = preflight(config)
    assert named(checks, "data").status == "ok"
    assert named(checks, "folds").failed
    assert "has 1 at most" in named(checks, "folds").detail
    scenes = {"n_pope_images": 4, "n_vqa_images": 4}
    data = {"origin": "scenes", "folder": "data", "scenes": scenes}
    assert "has 4 at most" in named(preflight(study(data=data)), "folds").detail


def test_images_of_own_questions_count_by_group(study: Any, tmp_path: Path) -> None:
    put_pope(tmp_path / "data")
    splits = [{"dataset": "own", "split": "shop", "task": "open", "count": 6}]
    path = tmp_path / "data" / "questions.jsonl"
    config = study(data={"origin": "local", "folder": "data"}, sample={"splits": splits})
    for i in range(6):
        (path.parent / "val2014" / f"{i}.jpg").touch()

    def check(**keys: Any) -> Any:
        plain = {"question": "What?", "answers": ["a"], **keys}
        rows = [plain | {"image": f"{i}.jpg"} for i in range(6)]
        path.write_text("\n".join(map(json.dumps, rows)))
        return named(preflight(config), "folds")

    assert check().line.split()[0] == "ok"
    assert "has 1 at most" in check(group="one shelf").detail
    # Without references no probe is fitted, and a study of any size is whole.
    assert check(answers=None).status == "skipped"


def test_a_condition_without_its_random_twin_is_refused(study: Any) -> None:
    conditions = [
        {"kind": "top", "count": 5, "value": "mean"}, {"kind": "random", "count": 5}
    ]  # fmt: skip
    [check] = preflight(study(ablate={"conditions": conditions}))
    assert check.failed
    assert (
        "top_5_mean has no matched_5_mean or random_5_mean to be compared with (found: top_5_mean, "
        "random_5)"
    ) in check.detail
    off = study(ablate={"conditions": conditions, "enabled": False})
    assert named(preflight(off), "config").status == "ok"


def test_official_files_without_the_mark_of_fetching_are_not_enough(
    study: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    put_pope(data)
    marks = data / ".downloads"
    marks.mkdir()
    config = study(data={"origin": "official", "folder": "data", "official": ["pope"]})
    check = named(preflight(config), "data")
    assert check.failed
    assert "coco_pope_popular.json was not fetched into data, or not whole and 2 more" in (
        check.detail
    )
    assert "`vrp fetch" in check.remedy
    assert "data.origin: local" in check.remedy
    for name in ("coco_pope_popular.json", "coco_pope_adversarial.json"):
        (marks / f"{name}.done").touch()
    assert "val2014.zip was not fetched" in named(preflight(config), "data").detail
    (marks / "val2014.zip.done").touch()
    assert named(preflight(config), "data").status == "ok"
    by_hand = study(data={"origin": "local", "folder": "data"})
    assert named(preflight(by_hand), "data").status == "ok"


def test_files_of_the_hub_without_the_record_of_fetching_are_not_enough(
    study: Any, tmp_path: Path
) -> None:
    questions = put_pope(tmp_path / "data")
    asked = {"repository": "lab/pope", "revision": "a" * 40, "subset": None, "split": "test"}
    config = study(data={"origin": "hub", "folder": "data", "hub": {"pope": asked}})
    check = named(preflight(config), "data")
    assert check.failed
    assert "data.hub.pope was not fetched" in check.detail
    assert "data.origin: local" in check.remedy
    record = {
        **asked,
        "commit": "a" * 40,
        "files": {"pope/coco_pope_random.json": file_sha256(questions)},
        "images": ["1.jpg"],
    }
    place = tmp_path / "data" / ".downloads" / "hub-pope.json"
    place.parent.mkdir()
    place.write_text(json.dumps(record))
    assert named(preflight(config), "data").status == "ok"
    questions.write_text("{}\n{}\n")
    assert "data.hub.pope was not fetched" in named(preflight(config), "data").detail


# Disk and quota


def test_a_disk_that_is_too_small(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1_000))
    check = named(preflight(study()), "disk")
    assert check.failed
    assert "HF_HOME" in check.remedy


def test_what_is_to_be_fetched_counts(study: Any) -> None:
    check = named(preflight(study(models=LARGE)), "disk")
    # 7.06e9 parameters in 16 bits.
    assert "checkpoints 14.1 GB" in check.detail


QUOTA = """Disk quotas for user someone (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
      /dev/home  900000 1000000 1100000       0    7000       0       0       0
/dev/scratch_over 2000* 1000 3000 0 10 0 0 0
   server:/none   12345       0       0       0     100       0       0       0
"""


@pytest.mark.parametrize(
    ("device", "left"),
    [
        ("/dev/home", 100_000 * 1024),
        ("/dev/scratch_over", 0),
        ("server:/none", None),
        ("/dev/other", None),
    ],
)
def test_quota_lines(device: str, left: int | None) -> None:
    assert quota_left(QUOTA, device) == left


def test_a_quota_that_is_too_small(
    study: Any, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_device_of", lambda place: "/dev/home")
    commands(quota=f"cat <<'END'\n{QUOTA}END")
    assert named(preflight(study()), "quota").status == "ok"
    check = named(preflight(study(models=LARGE)), "quota")
    assert check.failed
    assert "0.1 GB left" in check.detail
    monkeypatch.setattr(module, "_device_of", lambda place: "/dev/other")
    assert "no limit" in named(preflight(study()), "quota").detail


# GPU


def test_gpu_lines() -> None:
    output = "NVIDIA A100-SXM4-40GB, 40960\nNVIDIA H200, 143771\nnot a GPU\n"
    assert gpu_memories(output) == [
        ("NVIDIA A100-SXM4-40GB", 40 * GIB),
        ("NVIDIA H200", 143771 * GIB // 1024),
    ]


@pytest.mark.parametrize(
    ("smi", "status", "words"),
    [
        ("echo 'NVIDIA A100, 40960'", "ok", "1 × NVIDIA A100"),
        ("echo 'NVIDIA T4, 15360'", "failed", "needs"),
        ("echo 'Failed to initialize NVML' >&2; exit 9", "failed", "Failed to initialize NVML"),
    ],
)
def test_a_gpu_is_seen_and_large_enough(
    study: Any, commands: Commands, smi: str, status: str, words: str
) -> None:
    commands(nvidia_smi=smi)
    check = named(preflight(study(models=LARGE)), "GPU")
    assert check.status == status
    assert words in check.detail


def test_the_stage_that_needs_most_must_fit(study: Any, commands: Commands) -> None:
    # 18 GiB hold extraction and ablation of one item, but not the sampling's copies of its cache.
    commands(nvidia_smi="echo 'a GPU, 18432'")
    check = named(preflight(study(models=LARGE)), "GPU")
    assert check.failed
    assert "one item of its consistency stage" in check.detail
    without = study(models=LARGE, extraction_from="results/other")
    assert named(preflight(without), "GPU").status == "ok"


def test_a_device_map_takes_all_gpus_together(study: Any, commands: Commands) -> None:
    commands(nvidia_smi="echo 'NVIDIA T4, 15360'; echo 'NVIDIA T4, 15360'")
    models = {"large": {**LARGE["large"], "device_map": "auto"}}
    assert named(preflight(study(models=models)), "GPU").status == "ok"
    assert named(preflight(study(models=LARGE)), "GPU").failed


def test_without_a_gpu(study: Any, commands: Commands, tmp_path: Path) -> None:
    check = named(preflight(study(models=LARGE)), "GPU")
    assert check.failed
    assert "device: cpu" in check.remedy
    commands(**ANSWERING)
    elsewhere = preflight(study(models=LARGE), profile=profile(tmp_path))
    assert named(elsewhere, "GPU").status == "skipped"


# SLURM


def test_a_cluster_that_answers(study: Any, commands: Commands, tmp_path: Path) -> None:
    commands(**ANSWERING)
    checks = preflight(study(models=LARGE), profile=profile(tmp_path))
    assert named(checks, "scheduler").detail == "partitions that are up: cpu, gpu"
    assert named(checks, "GPU partition").detail == "gpu"
    assert named(checks, "status command").detail == "sacct answers"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sacct", "words"),
    [
        ("sleep 60", "does not answer"),
        ("echo 'Slurm accounting storage is disabled' >&2; exit 1", "storage is disabled"),
    ],
)
def test_sacct_without_accounting_behind_it(
    study: Any,
    commands: Commands,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sacct: str,
    words: str,
) -> None:
    monkeypatch.setattr("vrp.planning.external_commands.SECONDS", 1.0)
    monkeypatch.setattr(
        "vrp.planning.cluster.run_command", lambda *command: run_command(*command, seconds=1.0)
    )
    commands(**{**ANSWERING, "sacct": sacct})
    start = time.monotonic()
    check = named(preflight(study(), profile=profile(tmp_path)), "status command")
    assert time.monotonic() - start < 10
    assert check.failed
    assert words in check.detail
    assert "slurm-status-command: squeue" in check.remedy
    squeue = profile(tmp_path, **{"slurm-status-command": "squeue"})
    assert named(preflight(study(), profile=squeue), "status command").status == "ok"


def test_without_sacct_squeue_is_asked(study: Any, commands: Commands, tmp_path: Path) -> None:
    commands(**{name: text for name, text in ANSWERING.items() if name != "sacct"})
    check = named(preflight(study(), profile=profile(tmp_path)), "status command")
    assert check.detail == "squeue answers"


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        (
            {"sinfo": "echo 'Unable to contact slurm controller' >&2; exit 1"},
            "scheduler",
            "contact",
        ),
        ({"sinfo": "echo 'gpu|drain|gpu:4'"}, "scheduler", "no partition is up"),
        ({"sinfo": "echo 'cpu|up|(null)'"}, "GPU partition", "no partition that is up has a GPU"),
        ({"sbatch": "exit 1"}, "submission", "sbatch does not work"),
    ],
)
def test_a_cluster_that_cannot_be_used(
    study: Any,
    commands: Commands,
    tmp_path: Path,
    changes: dict[str, str],
    name: str,
    words: str,
) -> None:
    commands(**{**ANSWERING, **changes})
    check = named(preflight(study(models=LARGE), profile=profile(tmp_path)), name)
    assert check.failed
    assert words in check.detail
    assert check.remedy


def test_the_projects_own_executor_needs_no_accounting(
    study: Any, commands: Commands, tmp_path: Path
) -> None:
    own = profile(tmp_path, executor="vrp-slurm")
    commands(**{**ANSWERING, "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1"})
    check = named(preflight(study(), profile=own), "status command")
    assert check.status == "ok"
    assert "storage is disabled" in check.detail
    commands(squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    assert named(preflight(study(), profile=own), "status command").failed


@pytest.mark.parametrize(
    ("site", "status", "words"),
    [
        ("gpu_partition: gpu\n", "ok", "has what it asks for"),
        ("gpu_partition: fast\n", "failed", "fast"),
        ("partition: gpu\n", "failed", "partition"),
    ],
)
def test_the_sites_own_file(
    study: Any, commands: Commands, tmp_path: Path, site: str, status: str, words: str
) -> None:
    commands(**ANSWERING)
    path = tmp_path / "site.yaml"
    own = profile(tmp_path, executor="vrp-slurm", **{"vrp-slurm-site": str(path)})
    assert named(preflight(study(), profile=own), "site").status == "skipped"
    path.write_text(site)
    check = named(preflight(study(), profile=own), "site")
    assert check.status == status
    assert words in check.detail


def test_without_slurm_the_profile_cannot_be_used(study: Any, tmp_path: Path) -> None:
    check = named(preflight(study(), profile=profile(tmp_path)), "scheduler")
    assert check.failed
    assert "no such command" in check.detail


def test_other_profiles(study: Any, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "profile.yaml").write_text("cores: 2\n")
    assert "does not use SLURM" in named(preflight(study(), profile=str(local)), "scheduler").detail
    assert named(preflight(study(), profile="nowhere"), "scheduler").failed


# Commands of the machine


def test_a_command_and_its_children_end_in_time(commands: Commands, tmp_path: Path) -> None:
    commands(hangs="sleep 60 & sleep 60")
    start = time.monotonic()
    answer = run_command("hangs", seconds=0.5)
    assert time.monotonic() - start < 10
    assert not answer.in_time
    assert answer.reason == "it does not answer"
    assert run_command("not-there").reason == "there is no such command"
    commands(speaks="echo one; echo two >&2; exit 3")
    answer = run_command("speaks")
    assert (answer.output, answer.errors, answer.status) == ("one\n", "two\n", 3)
    assert answer.reason == "exit status 3: two"
    assert not answer.ok


BROKEN_PARTS = {
    "config.json": (b"[]", "not a JSON object"),
    "tokenizer_config.json": (b'{"auto_map": {"AutoTokenizer": ["x.Y", null]}}', "code of its own"),
    "processor_config.json": (b'{"auto_map": {"AutoProcessor": "x.Y"}}', "code of its own"),
    "generation_config.json": (b'{"eos_token_id": "x"}', "eos_token_id 'x'"),
    "chat_template.jinja": (b"{{ '[INST] ' + messages[0]['content'] }}", "use family: auto"),
    "adapter_config.json": (b"{}", "merge the adapter"),
}


@pytest.mark.parametrize("file", BROKEN_PARTS)
def test_a_checkpoint_that_loading_would_refuse(study: Any, tmp_path: Path, file: str) -> None:
    content, words = BROKEN_PARTS[file]
    folder = tmp_path / "checkpoint"
    shutil.copytree(zoo_checkpoint("llava"), folder)
    if file == "processor_config.json":  # the rest of it stays
        content = json.dumps(json.loads((folder / file).read_text()) | json.loads(content)).encode()
    (folder / file).write_bytes(content)
    models = {"own": {"family": "llava", "checkpoint": str(folder), "device": "cpu"}}
    check = named(preflight(study(models=models)), "model own")
    assert check.failed
    assert words in check.detail
    assert len(check.line.splitlines()) == 1
    assert "fetch" not in check.line
