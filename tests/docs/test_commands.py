"""Every command in the documents is one that there is, with options and files that there are."""

import contextlib
import io
import re
import shlex
from typing import NamedTuple

import pytest
from documents import HAND_WRITTEN, ROOT, blocks, commands

from vrp.cli import build_parser
from vrp.study.graph import STAGES

PROGRAMS = {
    "vrp", "snakemake", "make", "pytest", "python", "python3", "pip", "twine", "git", "hf",
    "export", ".", "cp", "mkdir", "ln", "cat", "for", "echo", "done",
}  # fmt: skip
FIRST = re.compile(r"config/(mine|four)\.yaml|slurm/site\.yaml")
"""Files that the reader makes."""
EXAMPLE_STAGE = "lengths"
"""Added by docs/extend/stage.md, which has a test of its own."""
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
STAGE_NAMES = {stage.name for stage in STAGES}


class Command(NamedTuple):
    """A command as a document names it."""

    page: str
    line: str
    whole: bool
    """Whether it stands in a block, to be typed as it is; else it is named in a sentence."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)


def all_commands():
    found = set()
    for block in blocks("console"):
        lines = (re.sub(r"\s+#.*", "", line) for line in commands(block))
        parts = (part for line in lines for part in re.split(r" && |; do$| \| | <<", line)[:1])
        found |= {Command(str(block.page.relative_to(ROOT)), part, True) for part in parts}
    for page in HAND_WRITTEN:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        named = re.findall(r"(?<!`)`((?:vrp|snakemake|make) [^`\n]+)`", text)
        found |= {Command(str(page.relative_to(ROOT)), line, False) for line in named}
    return sorted(one for one in found if not set("…<*") & set(one.line))


COMMANDS = [one for one in all_commands() if one.page != "CHANGELOG.md"]
every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one[:2])


def test_commands_were_found():
    assert len(COMMANDS) > 80
    assert len({one.page for one in COMMANDS}) > 15


@every_command
def test_the_program_is_there(command):
    program = command.words[0]
    assert program in PROGRAMS or (ROOT / program).exists()


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.line.startswith("vrp ")])
def test_a_vrp_command_parses(command):
    words = command.words[1:]
    if words[0] == EXAMPLE_STAGE:
        return
    said = io.StringIO()
    status = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            build_parser().parse_args(words)
        except SystemExit as ended:
            status = ended.code
    if command.whole:
        assert status == 0, said.getvalue()
    else:  # named in a sentence, where it may lack what it needs
        assert not re.search(r"unknown|unrecognized|invalid choice", said.getvalue())


@every_command
def test_files_that_it_reads_are_there(command):
    for word in command.words:
        path = word.partition("=")[2] or word
        named = re.fullmatch(r"(config|docs|src|workflow|benchmarks|slurm)/[\w./-]+\.\w+", path)
        if named and not FIRST.fullmatch(path):
            assert (ROOT / path).exists(), path


@every_command
def test_targets_and_stages_are_there(command):
    words = command.words
    if words[0] == "make" and len(words) > 1:
        assert words[1] in TARGETS
    for option in ("--until", "--forcerun"):
        if words[0] == "snakemake" and option in words:
            assert words[words.index(option) + 1] in STAGE_NAMES
