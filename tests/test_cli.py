import io
import subprocess
import sys

import pytest
from PIL import Image

from vrp.cli import build_parser, main

STAGES = (
    "fetch fetch-data fetch-model sample extract blind consistency metrics probes mask ablate "
    "effects figures report"
).split()


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_explains_itself(stage, capsys):
    with pytest.raises(SystemExit) as caught:
        main([stage, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--config" in text
    assert "None" not in text


@pytest.mark.slow
def test_the_command_line_is_light():
    code = (
        "import sys; from vrp.cli import build_parser; build_parser();"
        "heavy = {'torch', 'transformers', 'matplotlib', 'sklearn', 'polars'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_bad_input_is_one_line_and_status_2(tmp_path, capsys):
    config = tmp_path / "study.yaml"
    config.write_text("study: a\nmodels: {m: {family: llava, checkpoint: x}}\nprobs: {}\n")
    with pytest.raises(SystemExit) as caught:
        main(["fetch-data", "--config", str(config), "--data", str(tmp_path / "data.json")])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "'probs'" in message
    assert "'probes'" in message
    assert not (tmp_path / "data.json").exists()


MODEL_STAGES = ["fetch-model", "extract", "blind", "consistency", "metrics", "probes", "mask",
                "ablate"]  # fmt: skip


def required_arguments(stage, folder):
    """Every required option of a stage, with paths that need not exist."""
    commands = build_parser()._subparsers._group_actions[0].choices
    options = [action for action in commands[stage]._actions if action.required]
    return {action.option_strings[0]: str(folder / action.dest) for action in options}


@pytest.mark.parametrize("stage", MODEL_STAGES)
def test_an_unknown_model_names_the_known_ones(tmp_path, capsys, stage):
    config = tmp_path / "study.yaml"
    config.write_text("study: a\nmodels: {tiny: {family: llava, checkpoint: x}}\n")
    arguments = required_arguments(stage, tmp_path / "out")
    arguments |= {"--config": str(config), "--model": "tinny"}
    assert one_line(capsys, [stage, *sum(arguments.items(), ())]).endswith("choose one of tiny\n")
    assert not (tmp_path / "out").exists()


def one_line(capsys, arguments):
    """Run a command that must fail with status 2 and one line; return the line."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


SCENES = "data: {folder: FOLDER, scenes: {namespace: ci, n_pope_images: 4, n_vqa_images: 4}}\n"
STUDY = (
    "study: a\nmodels: {tiny: {family: FAMILY, checkpoint: 'zoo:llava'}}\n"
    + SCENES
    + "sample: {splits: [{dataset: pope, split: random, task: existence, count: COUNT}]}\n"
)


@pytest.fixture
def sampled(tmp_path, capsys):
    """A function that samples a small study after something was broken."""

    def run(break_something, *, count=24, family="llava"):
        config = tmp_path / "study.yaml"
        data = tmp_path / "data"
        text = STUDY.replace("FOLDER", str(data)).replace("COUNT", str(count))
        config.write_text(text.replace("FAMILY", family))
        main(["fetch-data", "--config", str(config), "--data", str(tmp_path / "data.json")])
        break_something(data)
        out = tmp_path / "out"
        command = ["sample", "--config", str(config), "--data", str(tmp_path / "data.json")]
        command += ["--items", str(out / "items.parquet"), "--sampling", str(out / "sampling.json")]
        capsys.readouterr()
        message = one_line(capsys, command)
        assert not out.exists() or not list(out.iterdir())
        return message

    return run


@pytest.mark.slow
def test_a_missing_image_stops_the_sampling(sampled):
    message = sampled(lambda data: next((data / "val2014").iterdir()).unlink())
    assert "image" in message


def test_a_truncated_jpeg_stops_the_sampling(sampled):
    def truncate(data):
        path = next((data / "val2014").iterdir())
        whole = io.BytesIO()
        Image.open(path).save(whole, "JPEG")
        path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])

    assert "image" in sampled(truncate)


def test_a_malformed_line_is_named_with_its_number(sampled):
    def cut(data):
        path = data / "pope" / "coco_pope_random.json"
        lines = path.read_text().splitlines()
        lines[2] = lines[2][:-4]
        path.write_text("\n".join(lines))

    message = sampled(cut)
    assert "coco_pope_random.json" in message
    assert "3" in message


def test_a_split_too_small_says_asked_and_found(sampled):
    message = sampled(lambda data: None, count=25)
    assert "25" in message
    assert "24" in message


def test_an_unknown_family_names_the_nearest(tmp_path, capsys):
    config = tmp_path / "study.yaml"
    config.write_text("study: a\nmodels: {tiny: {family: lava, checkpoint: 'zoo:llava'}}\n")
    output = tmp_path / "model.json"
    command = ["fetch-model", "--config", str(config), "--model", "tiny", "--manifest", str(output)]
    assert "llava" in one_line(capsys, command)
    assert not output.exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    config = tmp_path / "study.yaml"
    config.write_text(STUDY.replace("FOLDER", str(tmp_path / "data")).replace("COUNT", "4"))
    (tmp_path / "file").write_text("")
    output = str(tmp_path / "file" / "data.json")
    message = one_line(capsys, ["fetch-data", "--config", str(config), "--data", output])
    assert "cannot be written" in message


def test_lists_of_all_models_are_given_side_by_side():
    options = build_parser().parse_args(
        "effects --config c --items i --extract a b --mask m --ablate x y z --effects o".split()
    )
    assert len(vars(options)["path extract"]) == 2
    assert len(vars(options)["path ablate"]) == 3
