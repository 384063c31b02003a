import subprocess
import sys

import pytest

from vrp.cli import build_parser, main

STAGES = (
    "fetch-data fetch-model sample extract blind consistency metrics probes mask ablate effects "
    "figures report"
).split()


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_explains_itself(stage, capsys):
    with pytest.raises(SystemExit) as caught:
        main([stage, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--config" in text
    assert "None" not in text


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
        main(["fetch-data", "--config", str(config), "--output", str(tmp_path / "data.json")])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "'probs'" in message
    assert "'probes'" in message
    assert not (tmp_path / "data.json").exists()


def test_an_unknown_model_names_the_known_ones(tmp_path, capsys):
    config = tmp_path / "study.yaml"
    config.write_text("study: a\nmodels: {tiny: {family: llava, checkpoint: x}}\n")
    output = str(tmp_path / "m.json")
    with pytest.raises(SystemExit):
        main(["fetch-model", "--config", str(config), "--model", "tinny", "--output", output])
    assert "choose one of tiny" in capsys.readouterr().err


def test_shards_are_given_as_a_list():
    options = build_parser().parse_args(
        "effects --config c --items i --answers a b --mask m --ablate x y z --output o".split()
    )
    assert len(options.answers) == 2
    assert len(options.ablate) == 3
