"""Scoring against hand-worked results of POPE's and VQA's published rules."""

import pytest

from vrp.data.item import Question
from vrp.data.scoring import (
    majority_answer,
    normalise_answer,
    normalise_vqa,
    parse_pope_official,
    parse_pope_strict,
    process_digit_article,
    process_punctuation,
    score_answer,
    surface_forms,
    vqa_accuracy,
)
from vrp.errors import InputError

# answer, POPE's own rule, strict rule; each worked by hand from the rule's text.
POPE_ANSWERS = [
    ("Yes", "yes", "yes"),
    ("yes", "yes", "yes"),
    ("No", "no", "no"),
    ("no", "no", "no"),
    ("NO", "yes", "no"),  # the official words are No, not, no: NO is none of them
    ("nO", "yes", "no"),
    ("YES", "yes", "yes"),
    ("No!", "yes", "no"),  # "No!" is not the word "No"
    ("No.", "no", "no"),
    ("No,", "no", "no"),  # commas go before the split
    ("", "yes", None),
    (" ", "yes", None),
    (".", "yes", None),
    (". No", "yes", "no"),  # nothing stands before the first full stop
    ("No\nThere", "yes", "no"),  # split on spaces only: one word "No\nThere"
    ("No\n", "yes", "no"),
    ("No\tdog", "yes", "no"),
    ("\nNo", "yes", "no"),
    (" No", "no", "no"),
    ("  no  ", "no", "no"),
    ("Yes, there is no doubt", "no", None),
    ("Yes. There is no doubt", "yes", None),  # the second sentence is not read; strict reads all
    ("No, there is no dog", "no", "no"),
    ("not sure", "no", None),
    ("Not sure", "yes", None),  # "Not" is not "not"
    ("There is not a dog", "no", None),
    ("There is a dog", "yes", None),
    ("There isn't a dog", "yes", None),
    ("There is no dog in the image.", "no", "no"),
    ("None", "yes", None),
    ("Nope", "yes", None),
    ("nothing", "yes", None),
    ("Yes and no", "no", None),
    ("yes,no", "yes", None),  # official: comma dropped gives "yesno"; strict: two words
    ("yes/no", "yes", None),
    ("no-one", "yes", "no"),
    ("no yes no", "no", None),
    ("Yes yes YES", "yes", "yes"),
    ("'no'", "yes", "no"),
    ('"Yes"', "yes", "yes"),
    ("(no)", "yes", "no"),
    ("**No**", "yes", "no"),
    ("No; it is a cat", "yes", "no"),
    ("No: a cat", "yes", "no"),
    ("no_dog", "yes", None),  # an underscore is part of a word
    ("I see no. 5 on the shirt", "no", "no"),
    ("3.5 no", "yes", "no"),  # the decimal point ends the first sentence
    ("e.g. no", "yes", "no"),
    ("I know", "yes", None),
    ("Yesterday", "yes", None),
    ("yeah", "yes", None),
    ("n,o", "no", None),  # comma dropped: "no"
    ("N,o", "no", None),
    ("It does not. Yes.", "no", "yes"),
    ("nó", "yes", None),  # another word, written with one letter …
    ("no\u0301", "yes", None),  # … and with a combining accent
    ("The answer is: yes", "yes", "yes"),
    ("Non", "yes", None),
]


@pytest.mark.parametrize(("text", "official", "strict"), POPE_ANSWERS)
def test_pope_parsers_on_hand_worked_answers(text, official, strict):
    assert parse_pope_official(text) == official
    assert parse_pope_strict(text) == strict


def test_pope_table_is_long_and_both_rules_matter():
    assert len({text for text, *_ in POPE_ANSWERS}) >= 40
    assert any(official != strict for _, official, strict in POPE_ANSWERS)


# Worked from the published steps: each mark is deleted where it touches a space, else spaced.
PUNCTUATION = [
    ("t-shirt", "t shirt"),  # no space around: becomes a space
    ("t- shirt", "t shirt"),  # touches a space: deleted
    ("salt-and - pepper", "saltand  pepper"),  # one touching mark deletes all of its kind
    ("red,blue", "red blue"),
    ("red, blue", "red blue"),
    ("1,000", "1000"),
    ("1,000-2,000", "10002000"),  # a comma in a number deletes every mark
    ("(1,000)", "1000"),
    ("(red)", " red "),
    ("5:30", "5:30"),  # colons and apostrophes are not in the list
    ("dog's", "dog's"),
    ("2.5", "2.5"),
    ("3.", "3"),
    (".5", ".5"),
    ("3.a", "3a"),  # the misspelt look-behind: only a digit after saves the stop
    ("u.s.a.", "usa"),
    ("v2.0.", "v2.0"),
    ("..", ""),
    ("what?!", "what  "),
    ("<a@b>", " a b "),
    ("." * 40, "." * 8),  # the flag handed over as count: 32 stops go
]


@pytest.mark.parametrize(("text", "expected"), PUNCTUATION)
def test_official_punctuation_step(text, expected):
    assert process_punctuation(text) == expected


WORDS = [
    ("The dog", "dog"),
    ("a an the", ""),
    ("Two dogs", "2 dogs"),
    ("none", "0"),
    ("zero", "0"),
    ("TEN", "10"),
    ("eleven", "eleven"),
    ("dont", "don't"),
    ("Dont", "don't"),
    ("don't", "don't"),
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("couldntve", "couldntve"),  # both apostrophes missing: not in the table
    ("im", "im"),  # the table has "Im", words arrive in lower case
    ("Ive", "ive"),
    ("somebody'd", "somebodyd"),
    ("ow's'at", "'ow's'at"),
    ("y'alldve", "y'alldve"),
    ("yall'd've", "y'all'd've"),
    ("twas", "'twas"),
    ("oclock", "o'clock"),
    ("its", "its"),
    ("wheres the  man", "where's man"),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_official_word_step(text, expected):
    assert process_digit_article(text) == expected


NORMALISED = [
    ("  Two\n", "2"),
    ("A\tdog.", "dog"),
    ("Yes.", "yes"),
    ("red, white & blue", "red white & blue"),
    ("1,000.", "1000"),
    ("It's 5 o'clock!", "it's 5 o'clock"),
    ("the", ""),
    ("two-three", "2 3"),
    ("left/right", "left right"),
]


@pytest.mark.parametrize(("text", "expected"), NORMALISED)
def test_official_normalisation(text, expected):
    assert normalise_vqa(text) == expected


def test_vqa_accuracy_leave_one_annotator_out():
    # k matches of 10: k annotators see k-1 others match, 10-k see k: hand-worked means.
    for k, expected in [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)]:
        answers = ["dog"] * k + [f"other {i}" for i in range(10 - k)]
        for rule in ("official", "normalised"):
            assert vqa_accuracy("dog", answers, rule=rule) == pytest.approx(expected, abs=1e-15)


def test_vqa_accuracy_normalises_both_sides_where_annotators_differ():
    answers = ["two", "2", "Two", "2 dogs", *["3"] * 6]
    # "the two" → "2", which three annotators gave: 0.9.
    assert vqa_accuracy("the two.", answers) == pytest.approx(0.9, abs=1e-15)


def test_vqa_official_rule_normalises_nothing_where_annotators_agree():
    assert vqa_accuracy("Two", ["two"] * 10) == 0.0
    assert vqa_accuracy("two\n", ["two"] * 10) == 1.0
    assert vqa_accuracy("a dog", ["a dog"] * 10) == 1.0
    assert vqa_accuracy("Two", ["two"] * 10, rule="normalised") == 1.0
    # Letter for letter: one capital among ten is disagreement, and everything is normalised.
    assert vqa_accuracy("Two", ["two"] * 9 + ["Two"]) == 1.0


def test_vqa_accuracy_with_few_annotators():
    nine = ["red"] * 2 + ["blue"] * 7
    # "red": two annotators see 1 other match (1/3), seven see 2 (2/3): 16/27.
    assert vqa_accuracy("red", nine) == pytest.approx(16 / 27, abs=1e-15)
    assert vqa_accuracy("red", ["red"]) == 0.0  # no one else: the official formula gives nothing
    assert vqa_accuracy("Red.", ["red"], rule="normalised") == 1.0
    assert vqa_accuracy("red", ["red", "Red"], rule="normalised") == 1.0
    assert vqa_accuracy("red", ["red", "blue"], rule="normalised") == 0.5
    # Three: "red" sees 1 of 2, "Red" 1 of 2, "blue" 2 of 2 → (1/2 + 1/2 + 1)/3.
    three = vqa_accuracy("red", ["red", "Red", "blue"], rule="normalised")
    assert three == pytest.approx(2 / 3, abs=1e-15)
    with pytest.raises(InputError, match="at least one annotator"):
        vqa_accuracy("red", [])


def _question(task, answers, reference):
    return Question("vqa", task, task, "1", "i.jpg", "q?", answers, reference)


def test_score_answer_pope_parsers_differ_where_they_should():
    item = _question("existence", ["no"], "no")
    assert score_answer(item, "NO!") == ("no", 1.0, True)
    assert score_answer(item, "NO!", pope_parser="official") == ("yes", 0.0, False)
    assert score_answer(item, "a dog") == (None, 0.0, False)


def test_score_answer_vqa_threshold_is_inclusive():
    item = _question("open", ["red", "blue"], "red")
    assert score_answer(item, "Red") == ("red", 0.5, True)
    assert not score_answer(item, "Red", threshold=0.51).correct
    assert score_answer(item, "the").parsed is None


def test_normalised_answer_is_what_self_consistency_counts():
    assert normalise_answer("existence", "Yes, it is.") == "yes"
    assert normalise_answer("existence", "The dog") == "dog"
    assert normalise_answer("counting", "Two.") == "2"


def test_majority_answer_ties_and_letters():
    assert majority_answer(["two", "3", "2", "three", "2"]) == "2"
    assert majority_answer(["blue", "red", "red", "blue"]) == "blue"
    assert majority_answer(["A", "a"]) == "a"


@pytest.mark.parametrize(
    ("task", "reference", "expected"),
    [
        ("existence", "yes", {"Yes", "yes", "YES", " Yes", " yes", " YES"}),
        ("existence", "no", {"No", "no", "NO", " No", " no", " NO"}),
        ("counting", "2", {"2", " 2", "two", " two", "Two", " Two", "TWO", " TWO"}),
        ("counting", "two", {"2", " 2", "two", " two", "Two", " Two", "TWO", " TWO"}),
        ("counting", "14", {"14", " 14"}),
    ],
)
def test_surface_forms(task, reference, expected):
    assert set(surface_forms(task, reference)) == expected


@pytest.mark.parametrize("reference", ["0", "light blue", "t-shirt", "don't", "yes", "10", "a"])
def test_every_surface_form_parses_to_the_reference(reference):
    forms = surface_forms("open", reference)
    assert len(forms) == len(set(forms))
    assert {normalise_answer("open", form) for form in forms} == {normalise_vqa(reference)}
    answer = majority_answer([reference])
    assert all(vqa_accuracy(form, [answer], rule="normalised") == 1 for form in forms) or not forms


def test_surface_forms_of_zero_hold_both_words():
    assert {"0", "none", "None", "zero", " Zero"} <= set(surface_forms("counting", "0"))
