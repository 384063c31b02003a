"""Messages that the page on failures quotes are those that the program prints."""

import re

import pytest
from documents import ROOT
from messages import is_printed

PAGE = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE)


def test_messages_were_found():
    assert len(QUOTED) >= 40
    assert not is_printed("unknown key … of the moon")
    assert not is_printed("is missing … unknown key")


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message):
    parts = [part for part in message.split("…") if len(part.strip()) > 8]
    assert parts, "too little of the message is quoted to find it"
    assert is_printed(message)
