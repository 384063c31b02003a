"""A key that is given twice is refused, wherever it is; nothing in a file is a traceback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrp.config.study import StudyConfig, load_study, study_from_mapping
from vrp.config.yaml_file import read_yaml
from vrp.errors import InputError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "extract: {batch_size: 8}\nextract: {shards: 4}",
            "'extract' is given twice (lines 1 and 2)",
        ),
        ("models:\n  a: {x: 1}\n\n  a: {y: 1}\n", "'a' is given twice (lines 2 and 4)"),
        ("a: 1\n'a': 2", "'a' is given twice (lines 1 and 2)"),
        ("a: {b: 1, b: 1}", "'b' is given twice (line 1)"),
        ("- {b: 1}\n- c: 1\n  d: 2\n  c: 1", "'c' is given twice (lines 2 and 4)"),
        ('{"a": 1,\n "a": 2}', "'a' is given twice (lines 1 and 2)"),
        ("10: a\n0xa: b", "10 is given twice (lines 1 and 2)"),
        ("yes: a\ntrue: b", "True is given twice (lines 1 and 2)"),
        ("a: &x {b: 1, b: 2}\nc: *x", "'b' is given twice (line 1)"),
        ("? a\n: 1\n? a\n: 2", "'a' is given twice (lines 1 and 3)"),
        (
            "a: &x {b: 1}\nb: &y {b: 2}\nc:\n  <<: *x\n  <<: *y\n",
            "'<<' is given twice (lines 4 and 5)",
        ),
        ("a: &x {b: 1}\nc: {<<: *x, d: 1, <<: *x}", "'<<' is given twice (line 2)"),
    ],
)
def test_a_key_that_is_given_twice(tmp_path, text, words):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        load_study(file)
    assert str(refused.value) == f"{file}: key {words}; remove one"


def test_several_mappings_are_merged_by_one_key(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("a: &x {b: 1}\nb: &y {c: 2}\nc: {<<: [*x, *y], '<<': 3}\n")
    assert read_yaml(file)["c"] == {"b": 1, "c": 2, "<<": 3}


def test_equal_keys_of_other_mappings_and_merged_ones_are_no_repetition(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("a: &x {b: 1, c: 2}\nb: {<<: *x, b: 3}\nc: [{b: 1}, {b: 2}]\n")
    assert read_yaml(file)["b"] == {"b": 3, "c": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["a: 2024-13-45", "!!bool x", "!!int ''", "!!timestamp x", "[" * 2000, "a: \0", "{[1]: 2}",
     "a: 1\n---\nb: 2", "a: !!python/object/apply:os.system [touch x]", "\t- a", "%YAML 9", "*a",
     "9" * 5000],
)  # fmt: skip
def test_what_is_no_yaml_is_one_line(tmp_path, text):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        load_study(file)
    assert len(str(refused.value).splitlines()) == 1


WORDS = st.sampled_from(
    ["study", "models", "results", "a", "extract", "seed", "<<", "extensions", "&x", "*x", "1"]
)
PIECES = st.one_of(
    WORDS, st.sampled_from([":", ": ", "\n", "\n  ", "- ", "[", "]", "{", "}", ", ", "!!", "'", '"',
                            "|", ">", "#", "?", "%", "~", "null", "1e9", "0x1", "2024-02-31"]),
    st.text(max_size=5),
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(PIECES, max_size=30).map("".join))
def test_no_text_is_a_traceback(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert len(refusal(lambda: load_study(file)).splitlines()) <= 1


KEYS = [*StudyConfig.model_fields, "extrat", "__use_yte__", "family", "checkpoint", "splits"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.integers() | st.text(max_size=4), inner)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_no_mapping_is_a_traceback(raw):
    model = {"family": "llava", "checkpoint": "zoo:llava"}
    for given_one in (raw, {"study": "a", "models": {"m": model}, **raw}):
        assert len(refusal(lambda one=given_one: study_from_mapping(one)).splitlines()) <= 1


def refusal(read):
    """What is said of what is read; empty: it is accepted."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""
