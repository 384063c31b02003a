"""A key that is given twice is refused, and a value that would be read as another one."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.cli import parse_config

from vrp.errors import InputError
from vrp.workflow.misread_input import refuse_misread_input

TWICE = "a: 1\nb: 2\na: 3\n"


def refuse(*arguments, configfiles=(), config=()):
    settings = SimpleNamespace(config_args=list(config), config=parse_config(config))
    workflow = SimpleNamespace(
        configfiles=configfiles, config_settings=settings, basedir=Path("checkout")
    )
    refuse_misread_input(workflow, arguments)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("mine/profile.yaml", ("--profile", "mine")),
        ("mine/config.yaml", ("-n", "--profile=./mine", "all")),
        ("my own (1)/x'y.yaml", ("--profile", "my own (1)/x'y.yaml")),
        ("profiles/default/profile.yaml", ()),
        ("checkout/profiles/default/profile.yaml", ()),
        ("checkout/profiles/mine/profile.yaml", ("--workflow-profile", "mine")),
    ],
)
def test_a_profile(here, file, arguments):
    write(here / file, TWICE)
    with pytest.raises(InputError, match=r"profile\.yaml|config\.yaml|y\.yaml") as refused:
        refuse(*arguments)
    assert str(refused.value).endswith("key 'a' is given twice (lines 1 and 3); remove one")


def test_the_profile_of_the_environment(here, monkeypatch):
    write(here / "mine" / "profile.yaml", TWICE)
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "mine")
    with pytest.raises(InputError, match="given twice"):
        refuse()


def test_configuration_files_together_may_repeat_a_key(here):
    first, second = write(here / "a.yaml", "a: 1"), write(here / "b.yaml", "a: 2")
    refuse(configfiles=[first, second], config=["seed=3", "study=4"])
    write(second, TWICE)
    with pytest.raises(InputError, match=r"^b\.yaml: key 'a' is given twice \(lines 1 and 3\)"):
        refuse(configfiles=[first, second])


def test_a_template(here):
    with pytest.raises(
        InputError, match=r"^a\.yaml: key '__use_yte__': templates are not supported"
    ):
        refuse(configfiles=[write(here / "a.yaml", "__use_yte__: true\n?1 + 1: 2")])


def test_the_command_line():
    with pytest.raises(InputError, match="--config: key 'seed' is given twice"):
        refuse(config=["seed=1", "study=other", "seed=2"])


@pytest.mark.parametrize(
    ("arguments", "option", "lost"),
    [
        (["--config", "seed=1", "--config", "study=zz"], "config", "seed=1"),
        (["-n", "-C", "a=1", "seed=1", "--config=seed=1"], "config", "a=1"),
        (["-Cseed=1", "all", "-Cstudy=zz"], "config", "seed=1"),
        (["--configfile", "a.yaml", "--cores", "2", "--configfiles", "b.yaml"], "configfile",
         "a.yaml"),
    ],
)  # fmt: skip
def test_an_option_that_a_later_one_would_replace(arguments, option, lost):
    with pytest.raises(
        InputError, match=f"^--{option} is given 2 times, and {lost} would be ignored; give all"
    ):
        refuse(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "seed=1", "study=zz", "--configfile", "a.yaml", "b.yaml"],
        ["--config", "seed=1", "--config", "seed=1", "study=zz"],
        ["--config", "seed=1", "--config-file-of-mine", "x"],
        ["--set-threads", "a=1", "--set-threads", "b=2", "--", "--config", "--config"],
    ],
)
def test_an_option_that_replaces_nothing(arguments):
    refuse(*arguments)


@pytest.mark.parametrize("text", ["my results #1", "&a b", "!x b", "a\nb", "'it' x", '"a" b'])
def test_text_that_yaml_reads_otherwise(text):
    with pytest.raises(
        InputError, match=r"^--config: results reads as .*; put quotes around"
    ) as found:
        refuse(config=[f"results={text}"])
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    ["my results (1)/x'y", "a#1", "*a", " a ", "~/x", "'my results #1'", "{a: b}", "1"],
)
def test_text_that_is_read_as_it_is(text):
    refuse(config=[f"results={text}"])


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("extract={batch_size: 8, batch_size: 4}", "in extract, key 'batch_size' is given twice"),
        ("models={a: {x: 1}, a: {x: 2}}", "in models, key 'a' is given twice"),
        ("models={a: {dtype: x, dtype: y}}", "in models, key 'dtype' is given twice"),
        ("sample={splits: [{count: 1, count: 2}]}", "in sample, key 'count' is given twice"),
        ('data={"a": 1, a: 2}', "in data, key 'a' is given twice"),
    ],
)
def test_a_mapping_on_the_command_line(entry, words):
    with pytest.raises(InputError, match=f"^--config: {words}"):
        refuse(config=[entry])


@pytest.mark.parametrize("entry", ["extract={batch_size: 8}", "models={a: {x: 1}, b: {x: 1}}"])
def test_a_mapping_without_repetition(entry):
    refuse(config=[entry])
