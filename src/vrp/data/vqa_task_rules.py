"""Whether a question asks to count, or where things are to each other: by its sense, not a word.

The rules know the phrases in which the same words mean something else. A list of questions labelled
by hand is their test (`tests/data/labelled_questions.tsv`).
"""

import re

_UNIT = (
    r"(?:years?|yrs|months?|weeks?|days?|hours?|minutes?|seconds?|feet|foot|ft|inch(?:es)?|miles?|"
    r"mph|kilomet(?:er|re)s?|km|met(?:er|re)s?|yards?|pounds?|lbs|tons?|dollars?|cents|degrees?|"
    r"percent|people|o'?clock|[ap]m)"
)
_NUMBER_WORD = (
    r"(?:an? (?:hundred|thousand|million|dozen|few|couple)|(?:half )?an?|one|two|three|four|five|"
    r"six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty|eighty|ninety)"
)
_PERIOD = (
    r"(?:day|night|afternoon|morning|evening|winter|summer|spring|fall|autumn|year|week|month|"
    r"season|game|match|inning|race|show|lesson|meal|meals|lunch|dinner)"
)
_FOOD = (
    r"(?:pizza|cake|sandwich|meal|food|burger|hamburger|pie|donut|doughnut|drink|dinner|lunch|"
    r"breakfast|bread|fruit|apple|banana|hot dog|salad|wine|beer|coffee|milk|juice|soup|dish|"
    r"dessert|snack|cookie|steak|pasta|cheese)"
)
_IMAGE = r"(?:\w+ )?(?:picture|photograph|photo|image|pic|shot|frame|scene|foto|view)s?"
_DETERMINER = r"(?:the|an?|this|that|these|those|his|her|its|their|my|your|our|him|them|it)"
_DOCUMENT = (
    r"(?:ingredients?|text|list|caption|pictures?|images?|photos?|photographs?|options?|choices|"
    r"items?|words?|steps?|instructions?|recipe|diagram|chart|graph|sentences?|paragraphs?|"
    r"questions?|answers?|figures?|information|description|statements?|following|shown|listed|"
    r"pictured|seen|given|written|displayed|described|mentioned|depicted|named)"
)

# Phrases in which the words of a relation mean something else.
_OTHER_SENSES = re.compile(
    "|".join(
        rf"\b(?:{phrase})"
        for phrase in (
            # Time, number, degree.
            r"(?:left|leave|leaves|leaving) (?:\w+ )?behind\b",
            rf"(?:over|under|above|below) (?:about )?(?:the age|\$?\d|{_NUMBER_WORD} {_UNIT})\S*",
            rf"between (?:the )?(?:{_NUMBER_WORD}|\$?\d\S*)(?: (?:and|to|or) (?:{_NUMBER_WORD}|"
            rf"\$?\d\S*))?(?= {_UNIT}\b|$)",
            r"between (?:the )?(?:ages?|hours?|years?|times?|months?)\b", r"times? between\b",
            rf"between (?:\w+ )?{_PERIOD}\b",
            rf"in the middle of (?:the |an? )?(?:\w+ing|{_PERIOD}|nowhere)\b",
            r"(?:all )?over (?:there|here|and|again|time|easy|the (?:years?|phone|weekend|counter|"
            r"past|last|next|internet|radio))\b",
            r"all over\b", r"(?:over|under) (?:\w+ed|ripe|weight|cast|done)\b",
            r"(?:under|below|above) (?:construction|repairs?|renovation|maintenance|arrest|attack|"
            r"way|control|age|average|freezing|zero|par|budget|warranty|pressure|stress|ground|"
            r"investigation|development|supervision|sea level|normal|the (?:weather|influence|law)"
            r")\b",
            r"behind (?:schedule|bars|time|the times|the scenes)\b",
            r"(?:reason|meaning|story|idea|motive|purpose|concept|thoughts?|science|logic|"
            r"inspiration|history|symbolism) behind\b",
            r"next to (?:come|go|happen|arrive|leave|bat|serve|play|speak|be|last|nothing|"
            r"impossible)\b",
            # Difference, choice, contest.
            r"(?:differences?|different|differs?|similarit(?:y|ies)|similar|relationships?|"
            r"relations?|connections?|contrast|comparisons?|compare|conversation|match|game|fight|"
            r"competition|agreement|deal|treaty|bond|choice|choose|chosen|choosing|decid(?:e|ing)|distinguish|"
            r"distinction|contest|war|race|score|alternat(?:e|es|ing))"
            r" (?:\w+ ){0,3}?between\b",
            # What remains; the right to go first; out of doors.
            r"(?:how much|how many|anything|nothing|something|is there much) (?:.*? )?left of\b",
            rf"left of {_DETERMINER} (?:\w+ )?{_FOOD}\b",
            r"right of way\b",
            r"inside or (?:out|outside)\b", r"inside out\b", r"(?:the|an) inside of\b",
            # A place in the document, or a region of the photograph.
            rf"{_DOCUMENT} (?:above|below|underneath|beneath)\b(?! {_DETERMINER}\b)",
            rf"(?:the|all|any|none|one|each) (?:above|below)\b(?! {_DETERMINER}\b)",
            r"(?:left|right|top|bottom|middle|cent(?:er|re)|corners?|sides?|edges?|half|part|"
            r"quarter|the (?:front|back|rear))(?: (?:hand )?(?:side|corner|edge|part|half))? of "
            rf"(?:{_DETERMINER} )?{_IMAGE}\b",
            r"(?:taken|shot|photographed) (?:from )?(?:inside|outside|above|below|behind|over)\b",
            r"is this (?:inside|outside)\b",
        )
    )
)  # fmt: skip

# A place that only says which thing is meant, of a question for a reason or for what is written.
_REASON_OR_WORDS = re.compile(
    r"\bwhy\b|\bhow come\b|\bhow (?:did|does|do|can|could|would|will)\b|"
    r"\b(?:purpose|reason|point|function|use) (?:of|for)\b|^what\b.* for$|"
    r"\b(?:say|says|saying|spells?|spelled)\b|"
    r"\b(?:what|which)\b.*\b(?:reads?|written|printed|words?|text|message|stated|name on)\b"
)
_NO_OBJECT = (
    r"(?:and|or|is|are|was|were|do|does|did|in|at|to|of|for|when|if|because|with|have|has|can|"
    r"would|will|be|here|there|now|then|again|yet|but)"
)
_OF_SOMETHING = rf"(?: (?!{_NO_OBJECT}\b)|$)"
_RELATIONS = re.compile(
    r"\b(?:left|right)(?:most)?(?: ?hand)?(?: side)? of\b" + _OF_SOMETHING + "|"
    # "to her left", "on the man's right side", but not "on his left hand".
    r"\b(?:to|on|at|from) (?:\w+ ){0,3}?(?:his|her|its|their|my|your|\w+'s|\w+s') (?:\w+ )?"
    r"(?:left|right)(?: side)?(?=$| (?:is|are|in|and|or|who|that)\b)|"
    r"\b(?:which|what) side of\b|"
    r"\b(?:next to|beside|alongside|adjacent to|across from|in front of|in back of|"
    r"on (?:the )?top of|in between|between|inside of|outside of)\b" + _OF_SOMETHING + "|"
    r"\b(?:in|at|near) the (?:\w+ )?(?:middle|cent(?:er|re)|top|bottom|front|back|rear) of\b"
    + _OF_SOMETHING + "|"
    r"\b(?:above|below|behind|under|underneath|beneath|over|inside)"
    rf" (?!{_NO_OBJECT}\b)\w|"
    rf"\boutside {_DETERMINER}\b|"
    # "What is the cat under?": the thing is what is asked for.
    rf"\b(?:what|which|who|whom)\b.*\b(?:is|are|was|were|does|do|did) (?:{_DETERMINER}|he|she|they|"
    r"we|you|\w+s)\b.* (?:behind|under|underneath|beneath|inside|above|below|\w+ing over)$"
)  # fmt: skip

_PLURAL = r"(?:\w+ )?(?:\w+s|people|men|women|children|sheep|cattle|geese|mice|teeth|feet|deer)\b"
_COUNT = re.compile(
    rf"\bhow many\b|\bwhat number of (?={_PLURAL})|"
    rf"\bwhat(?: is|'s) the (?:\w+ )?number of (?!(?:{_DETERMINER})\b)(?={_PLURAL})"
)
_ALSO_THINGS = r"(?:feet|foot|met(?:er|re)s?|yards?)"  # of a body, for parking, behind a house
# An amount of a unit, or of something a time: measured or known, not counted.
_MEASURE = re.compile(
    rf"\bhow many (?:more |square |whole )?(?!{_ALSO_THINGS}|people|cents){_UNIT}\b(?! signs?\b)|"
    rf"\bhow many {_ALSO_THINGS} (?:is|was|tall|long|high|deep|wide|away|apart|off|from|above|"
    r"below|across|thick|up|to)\b|"
    rf"\bhow many {_ALSO_THINGS}\b.*\b(?:apart|away|tall|high|deep|wide|long|between)\b|"
    r"\bper\b|\b(?:an|each|every) (?:hour|minute|second|day|week|month|year)\b|"
    r"\b(?:times|\w+s) an? (?:hour|minute|second|day|week|month|year)\b|\bblocks away\b"
)


def is_counting_question(question: str) -> bool:
    """Whether a question is answered by counting things; not a distance, a duration or a rate."""
    text = _plain(question)
    return _COUNT.search(text) is not None and _MEASURE.search(text) is None


def is_spatial_question(question: str) -> bool:
    """Whether the answer depends on where things are to each other.

    Not where the words are of time, of a difference, of a document's layout or of a region of the
    photograph, nor where they only say which thing a question for a reason or a text is about.
    """
    text = _plain(question)
    if not _RELATIONS.search(text) or _REASON_OR_WORDS.search(text):
        return False
    return _RELATIONS.search(_OTHER_SENSES.sub(" ", text)) is not None


def _plain(question: str) -> str:
    """Lower case, words parted by single spaces, no marks but those inside words and numbers."""
    text = question.lower().replace("’", "'")
    text = re.sub(r"[^\w'$:.,]+|[.,:](?!\d)", " ", text)
    return " ".join(text.split())
