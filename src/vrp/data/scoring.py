"""Scoring: POPE's two parsers, VQA accuracy with the official normalisation, surface forms.

Sources: POPE's evaluation rule (evaluate.py) and the VQA v2 evaluation code (vqaEval.py), both
reproduced in behaviour to the last digit, quirks included.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from vrp.data.item import EXISTENCE, YES_NO, Item, Question
from vrp.errors import InputError

PopeParser = Literal["strict", "official"]
VqaRule = Literal["normalised", "official"]

_WORD = re.compile(r"\w+")
COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORDS = {"none": "0", **{word: str(n) for n, word in enumerate(COUNTED)}}
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER = re.compile(r"-?\d+([.,]\d+)?")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# The official look-behind is misspelt, so a full stop goes unless a digit *follows*: "3." → "3",
# "2.5" and ".5" stay. It also hands the flag re.UNICODE over as the count of replacements.
_FULL_STOP = re.compile(r"\.(?!\d)")
_MAX_FULL_STOPS = int(re.UNICODE)
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
"""


def _contractions() -> dict[str, str]:
    """Every word that lacks exactly one of its apostrophes → the word with all of them.

    The official table's entries for "Im", "Ive" and "Id've" can never be reached, since words
    arrive in lower case; "let's" and "she's" map to themselves; "somebody'd" *loses* its own.
    """
    table = {"somebody'd": "somebodyd"}
    for word in _CONTRACTED.split():
        for i, letter in enumerate(word):
            if letter == "'":
                table[word[:i] + word[i + 1 :]] = word
    return table


_CONTRACTIONS = _contractions()


class Scored(NamedTuple):
    """One answer, scored."""

    parsed: str | None
    """What was understood: yes or no for POPE, the normalised answer for VQA; None: unparsed."""
    score: float | None
    """In [0, 1]: VQA accuracy, or 1 and 0 for POPE; None without a reference."""
    correct: bool | None
    """POPE: parsed equals the label; VQA: score ≥ threshold; None without a reference."""


def parse_pope_official(text: str) -> str:
    """POPE's own rule, bit-exact: the text before the first full stop, commas dropped, split on
    spaces; ``No``, ``not`` or ``no`` among the words means no, *everything* else means yes.
    """
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if any(word in ("No", "not", "no") for word in words) else "yes"


def parse_pope_strict(text: str) -> str | None:
    """Whole words yes and no in any case; None (unparsed) unless exactly one kind is present.

    "No, there is no dog" is no; "Yes, and no" and "There is a dog" are unparsed.
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text))
    kinds = {word.lower() for word in words} & set(YES_NO)
    return kinds.pop() if len(kinds) == 1 else None


def parse_pope(text: str, parser: PopeParser) -> str | None:
    """Parse a POPE answer by the named parser."""
    return parse_pope_official(text) if parser == "official" else parse_pope_strict(text)


def process_punctuation(text: str) -> str:
    """The official VQA punctuation step.

    A mark that touches a space anywhere in the text is deleted throughout, any other becomes a
    space; a comma between digits anywhere makes *every* mark be deleted. Then full stops go,
    32 at most, unless a digit follows. Apostrophes and colons stay.
    """
    comma_in_number = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        delete = comma_in_number or mark + " " in text or " " + mark in text
        out = out.replace(mark, "" if delete else " ")
    return _FULL_STOP.sub("", out, count=_MAX_FULL_STOPS)


def process_digit_article(text: str) -> str:
    """The official VQA word step: lower case, number words to digits, articles dropped,
    missing apostrophes of known contractions put back, spaces collapsed.
    """
    words = [_NUMBER_WORDS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(maxsize=65_536)  # a hundred thousand questions have a million answers, few of them new
def normalise_vqa(text: str) -> str:
    """The official VQA normalisation: line breaks and tabs to spaces, ends stripped, then
    punctuation, then words. It may leave nothing ("a" → "").
    """
    return process_digit_article(process_punctuation(_one_line(text)))


def vqa_accuracy(answer: str, answers: Sequence[str], *, rule: VqaRule = "official") -> float:
    """VQA accuracy: the mean over annotators of min(1, matches among the *others* / 3).

    ``official`` reproduces the VQA v2 evaluation code to the last digit: where all annotators
    agree to the letter it normalises nothing, so that "Two" scores 0 against ten times "two"; with
    fewer than four annotators nothing reaches 1. ``normalised`` always normalises both sides, and
    divides by the number of other annotators where that is under three (one annotator: equal or
    not). With four annotators or more and any disagreement the two are the same.
    Raises InputError where there is no annotator.
    """
    if not answers:
        raise InputError("VQA accuracy needs at least one annotator's answer; remove the question")
    given, truths = _one_line(answer), [_one_line(truth) for truth in answers]
    if rule == "normalised" or len(set(truths)) > 1:
        given, truths = normalise_vqa(given), [normalise_vqa(truth) for truth in truths]
    if rule == "normalised":
        if len(truths) == 1:
            return float(given == truths[0])
        needed = min(3, len(truths) - 1)
    else:
        needed = 3
    matches = sum(truth == given for truth in truths)
    per_annotator = [min(1, (matches - (truth == given)) / needed) for truth in truths]
    return float(sum(per_annotator)) / len(per_annotator)


def reachable_vqa_accuracy(answers: Sequence[str], rule: VqaRule) -> float:
    """The most VQA accuracy that any answer gets: that of the one most annotators gave.

    Under ``official`` at most min(1, (n - 1) / 3): fewer than four annotators never give 1.
    """
    counts = Counter(map(normalise_vqa, answers))
    return vqa_accuracy(max(answers, key=lambda a: counts[normalise_vqa(a)]), answers, rule=rule)


def agreement(answers: Sequence[str]) -> float:
    """Share of the annotators who gave the most frequent answer; NaN where there are none."""
    if not answers:
        return math.nan
    counts = Counter(normalise_vqa(answer) for answer in answers)
    return max(counts.values()) / len(answers)


def majority_answer(answers: Sequence[str]) -> str:
    """The normalised answer most annotators gave; a tie goes to the one given first.

    Answers that normalise to nothing (the letter "a") are kept as written, in lower case.
    Raises InputError where there is none.
    """
    if not answers:
        raise InputError("a majority needs at least one answer; remove the question")
    normalised = [normalise_vqa(answer) or _one_line(answer).lower() for answer in answers]
    return Counter(normalised).most_common(1)[0][0]


def answer_form(reference: str) -> str:
    """Form of a question by its reference answer: `yes/no`, `number` or `other`.

    Models answer forms at very different rates within one task, so that whatever recognises the
    form would seem to recognise right answers.
    """
    normalised = normalise_vqa(reference)
    if normalised in YES_NO:
        return "yes/no"
    return "number" if _NUMBER.fullmatch(normalised) else "other"


def normalise_answer(task: str, text: str) -> str:
    """The form in which two answers count as the same, for self-consistency.

    existence: yes or no by the strict parser, else the normalised text; other tasks: the official
    VQA normalisation.
    """
    parsed = parse_pope_strict(text) if task == EXISTENCE else None
    return parsed if parsed is not None else normalise_vqa(text)


def score_answer(
    item: Item | Question,
    text: str,
    *,
    pope_parser: PopeParser = "strict",
    vqa_rule: VqaRule = "normalised",
    threshold: float = 0.5,
) -> Scored:
    """Score one answer to one item: ``existence`` as POPE, every other task by VQA accuracy.

    An unparsed POPE answer is wrong. An answer without a reference is parsed and not judged.
    Raises InputError where the item has so few answers that the threshold cannot be reached.
    """
    existence = item.task == EXISTENCE
    parsed = parse_pope(text, pope_parser) if existence else normalise_vqa(text) or None
    if item.reference is None:
        return Scored(parsed, None, None)
    if existence:
        correct = parsed == item.reference
        return Scored(parsed, float(correct), correct)
    n = len(item.answers)
    if n < 4 and reachable_vqa_accuracy(["all say this"] * n, vqa_rule) < threshold:
        raise InputError(
            f"scoring.vqa_threshold {threshold:g} cannot be reached by items of {n} `answers` "
            "under the official rule, which counts three others; set scoring.vqa_rule: normalised"
        )
    score = vqa_accuracy(text, item.answers, rule=vqa_rule)
    return Scored(parsed, score, score >= threshold)


def surface_forms(task: str, reference: str) -> tuple[str, ...]:
    """Ways to write the reference, each parsing to it: for the first tokens of the truth margin.

    Lower case, Capitalised, Each Word, UPPER CASE; number words next to digits ("2", "two", "Two");
    each with and without a leading space. Forms that open with an article or a mark also parse to
    the reference but are left out: their first token announces any answer.
    """
    wanted = normalise_answer(task, reference)
    spellings = dict.fromkeys([_one_line(reference), wanted])
    if task != EXISTENCE:
        words = [word for word, digit in _NUMBER_WORDS.items() if digit == wanted]
        spellings.update(dict.fromkeys(words))
    cased = dict.fromkeys(
        form
        for spelling in spellings
        for form in (
            spelling,
            spelling.lower(),
            spelling[:1].upper() + spelling[1:],
            " ".join(word[:1].upper() + word[1:] for word in spelling.split(" ")),
            spelling.upper(),
        )
    )
    kept = [form for form in cased if form and normalise_answer(task, form) == wanted]
    return tuple(space + form for form in kept for space in ("", " "))


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
