import pytest
import yaml

from vrp.config.extract import answer_limits
from vrp.config.study import load_study, study_from_mapping
from vrp.data.datasets import all_tasks
from vrp.errors import InputError
from vrp.study.graph import STAGE
from vrp.study.keys import stage_config

MODEL = {"family": "llava", "checkpoint": "zoo:llava"}
HUB = {"repository": "owner/name", "revision": "main"}

EXTRACT = STAGE["extract"]


def minimal(**more):
    return {"study": "demo", "models": {"llava": MODEL}, **more}


def asking(dataset, task, *, split="val", **more):
    asked = {"dataset": dataset, "split": split, "task": task, "count": 1}
    return minimal(sample={"splits": [asked]}, **more)


def files(dataset, **places):
    return minimal(data={"files": {dataset: places}})


def test_textvqa_is_asked_for_by_its_origin():
    official = {"origin": "official", "official": ["textvqa"]}
    hub = {"origin": "hub", "hub": {"textvqa": {"repository": "a/b", "revision": "main"}}}
    for data in (official, hub, {"origin": "local"}):
        study = study_from_mapping(asking("textvqa", "text", data=data))
        assert study.data.question_files([("textvqa", "val")]) == ["textvqa/TextVQA_0.5.1_val.json"]
        assert study.data.places("textvqa").images == "train_images"


def test_question_files_are_named_once_and_in_order():
    data = study_from_mapping(minimal()).data
    asked = [("vqa", "open"), ("pope", "random"), ("vqa", "spatial"), ("own", "x"), ("own", "y")]
    assert data.question_files(asked) == [
        "vqa/v2_OpenEnded_mscoco_val2014_questions.json", "vqa/v2_mscoco_val2014_annotations.json",
        "pope/coco_pope_random.json", "questions.jsonl",
    ]  # fmt: skip
    assert data.image_folders(dataset for dataset, _ in asked) == ["val2014"]


def test_folders_have_one_spelling(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    folders = {
        "./out/": "out", "~/out": "/home/me/out", "/out//x/": "/out/x", "/out/../x": "/x",
        "a/../b/./c": "b/c", "../b": "../b", "../a/../b": "../b", "~/../x": "/home/x", ".": ".",
    }  # fmt: skip
    for spelled, meant in folders.items():
        study = study_from_mapping(minimal(results=spelled, data={"folder": spelled}))
        assert (study.results, study.data.folder) == (meant, meant)
    others = {"~/out/other": "/home/me/out/other", "./other": "./other", "other": "other"}
    for spelled, meant in others.items():
        assert study_from_mapping(minimal(extraction_from=spelled)).extraction_from == meant


def test_a_folder_above_a_link_is_the_one_that_the_system_finds(tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    study = study_from_mapping(minimal(results=f"{tmp_path}/link/../out"))
    assert study.results == f"{tmp_path.resolve()}/elsewhere/out"
    # A link alone stays as it is spelled.
    assert study_from_mapping(minimal(results=f"{tmp_path}/link")).results == f"{tmp_path}/link"


def test_defaults_are_the_papers_items():
    study = study_from_mapping(minimal())
    assert sum(split.count for split in study.sample.splits) == 3090
    assert study.consistency.k == 10
    assert (study.mask.conditions[0].kind, study.mask.conditions[0].share) == ("top", 0.3)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (minimal(probs={}), ["'probs'", "'probes'"]),
        (minimal(probes={"fold": 3}), ["'probes.fold'", "'folds'"]),
        ({"study": "a", "models": {"m": {"family": "llava", "chekpoint": "x"}}}, ["'checkpoint'"]),
        (minimal(ablate={"conditions": [{"kind": "top", "cout": 1}]}), ["'count'"]),
        (minimal(probes={"folds": 1}), ["probes.folds", "found 1"]),
        (
            minimal(extract={"max_new_tokens_by_task": {"existance": 2}}),
            ["'extract.max_new_tokens_by_task'", "'existance'; did you mean 'existence'"],
        ),
        (
            minimal(extract={"max_new_tokens_by_task": {"vqa": 2}}),
            [f"unknown task 'vqa' (known: {', '.join(all_tasks())})"],
        ),
        (
            minimal(extract={"max_new_tokens_by_task": {"open": 0}}),
            ["extract.max_new_tokens_by_task.open", "found 0"],
        ),
        (minimal(study="Demo Study"), ["'study'", "lower-case"]),
        (minimal(data={"images": "../elsewhere"}), ["inside the data folder"]),
        (minimal(data={"scenes": {"namespace": "zoo-train"}}), ["zoo"]),
        ({"study": "a", "models": {"figures": MODEL}}, ["figures"]),
        (files("own", questions="../q.jsonl"), ["inside the data folder"]),
        (files("textvqa", images="/photos"), ["'/photos'", "origin is local"]),
        (minimal(data={"images": "/photos"}), ["'/photos'", "origin is local"]),
        (files("textvqa", images="../photos"), ["inside the data folder"]),
        (files("own", questions="/q.jsonl"), ["inside the data folder"]),
        (files("textvqa", questions="t_{set}.json"), ["no braces but {split}"]),
        (files("own", question="q.jsonl"), ["data.files", "'question'; did you mean 'questions'"]),
        (files("owm", questions="q.jsonl"), ["data.files", "'owm'; did you mean 'own'"]),
        (minimal(data={"official": ["own"]}), ["own has no official archives"]),
        (minimal(data={"hub": {"own": HUB}}), ["own is not read from the hub"]),
        (asking("popee", "existence"), ["sample.splits.0.dataset", "did you mean 'pope'"]),
        (minimal(data={"official": []}), ["data.official"]),
        (asking("textvqa", "open"), ["textvqa does not ask for open", "its task is text"]),
        (asking("pope", "open"), ["its task is existence"]),
        (asking("own", "text"), ["existence or counting or spatial or open"]),
        (asking("textvqa", "text", split="../val"), ["without slashes"]),
        (asking("textvqa", "text"), ["drawn scenes do not have", "data.origin"]),
        (asking("textvqa", "text", data={"origin": "official"}), ["textvqa", "data.official"]),
        ({"models": {"m": MODEL}}, ["'study' is missing"]),
        (
            {"study": "a", "models": {"m": MODEL | {"min_pixels": 9, "max_pixels": 4}}},
            ["models.m", "min_pixels 9 is above max_pixels 4"],
        ),
        (minimal(probes={"penalties": []}), ["probes.penalties", "at least 1"]),
    ],
)
def test_a_wrong_key_is_one_clear_line(raw, words):
    with pytest.raises(InputError) as caught:
        study_from_mapping(raw, where="study.yaml")
    message = str(caught.value)
    assert message.startswith("study.yaml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("section", "key", "refused", "taken"),
    [
        ("metrics", "auroc_margin", [5, 0.5, 0, float("inf")], 0.49),
        ("metrics", "r_margin", [1, 0, float("inf")], 0.99),
        ("effects", "equivalence_pp", [100, 0, float("inf")], 99),
        ("probes", "sparse_c", [0, float("inf")], 10),
        ("consistency", "temperature", [0, float("inf")], 2),
    ],
)
def test_numbers_have_limits_beyond_which_they_mean_nothing(section, key, refused, taken):
    for value in [*refused, float("nan"), float("-inf"), -1]:
        with pytest.raises(InputError, match=rf"key '{section}\.{key}': Input should be"):
            study_from_mapping(minimal(**{section: {key: value}}))
    assert getattr(getattr(study_from_mapping(minimal(**{section: {key: taken}})), section), key)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 0, -1])
def test_every_penalty_is_a_positive_number(wrong):
    with pytest.raises(InputError, match=r"key 'probes\.penalties\.1': Input should be"):
        study_from_mapping(minimal(probes={"penalties": [0.1, wrong]}))


@pytest.mark.parametrize(
    ("content", "word"),
    [("study: [", "valid YAML"), ("- a\n- b\n", "mapping"), (None, "cannot be read")],
)
def test_a_broken_file_is_named(tmp_path, content, word):
    path = tmp_path / "study.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=word) as caught:
        load_study(path)
    assert str(path) in str(caught.value)


def test_a_file_round_trips(tmp_path):
    study = study_from_mapping(minimal(seed=7))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    assert load_study(path) == study


def test_stage_config_holds_what_the_stage_reads_and_nothing_else():
    study = study_from_mapping(minimal())
    keys = stage_config(study, STAGE["probes"])
    assert keys["probes.folds"] == 5
    assert all(key.startswith(("seed", "probes.", "metrics.auroc_margin")) for key in keys)


def test_stage_config_of_a_model_ignores_the_other_models():
    one = study_from_mapping(minimal())
    two = study_from_mapping(
        {"study": "demo", "models": {"llava": MODEL, "more": {**MODEL, "dtype": "bfloat16"}}}
    )
    assert stage_config(one, EXTRACT, "llava") == stage_config(two, STAGE["extract"], "llava")
    assert stage_config(two, EXTRACT, "more") != stage_config(two, STAGE["extract"], "llava")


def test_everything_is_captured_by_default_and_the_order_does_not_matter():
    study = study_from_mapping(minimal())
    assert study.extract.capture == (
        "attention", "heads", "lens", "contributions", "residual_update",
    )  # fmt: skip
    one, other = (
        study_from_mapping(minimal(extract={"capture": capture}))
        for capture in (["lens", "attention"], ["attention", "lens"])
    )
    assert stage_config(one, EXTRACT, "llava") == stage_config(other, STAGE["extract"], "llava")
    nothing = study_from_mapping(minimal(extract={"capture": []}, mask={"enabled": False}))
    assert nothing.extract.capture == ()


def test_what_is_captured_is_a_key_of_the_extraction_alone():
    whole = study_from_mapping(minimal())
    part = study_from_mapping(minimal(extract={"capture": ["attention"]}))
    changed = {
        stage
        for stage in STAGE
        if stage_config(whole, STAGE[stage], "llava") != stage_config(part, STAGE[stage], "llava")
    }
    assert changed == {"extract"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"extract": {"capture": ["attention", "lense"]}}, ["extract.capture.1", "found 'lense'"]),
        ({"extract": {"capture": ["lens", "lens"]}}, ["extract.capture", "each name once"]),
        ({"extract": {"capture": ["heads"]}}, ["extract.capture", "heads needs attention"]),
        (
            {"extract": {"capture": ["lens"]}},
            ["add attention to extract.capture", "set mask.enabled to false"],
        ),
    ],
)
def test_a_capture_that_cannot_be_is_one_clear_line(more, words):
    with pytest.raises(InputError) as caught:
        study_from_mapping(minimal(**more), where="study.yaml")
    message = str(caught.value)
    assert message.startswith("study.yaml: ")
    assert "\n" not in message
    assert "key ''" not in message
    for word in words:
        assert word in message


def test_one_longest_answer_for_all_tasks_but_those_that_are_named():
    def limits(**extract):
        found = study_from_mapping(minimal(extract=extract)).extract
        return answer_limits(found)

    by_task = {"existence": 2, "open": 12}
    for task in (*all_tasks(), "a task of an extension"):
        assert limits()[task] == 6
        assert limits(max_new_tokens=9)[task] == 9
        found = limits(max_new_tokens=4, max_new_tokens_by_task=by_task)
        assert found[task] == by_task.get(task, 4)


def test_a_tasks_longest_answer_concerns_every_run_of_the_model():
    plain = study_from_mapping(minimal())
    short = study_from_mapping(minimal(extract={"max_new_tokens_by_task": {"existence": 2}}))
    changed = {
        stage
        for stage in STAGE
        if stage_config(plain, STAGE[stage], "llava") != stage_config(short, STAGE[stage], "llava")
    }
    assert changed == {"extract", "blind", "consistency", "mask", "ablate"}
