"""The result of one check of the preflight, and how it is printed."""

from typing import Literal, NamedTuple


class Check(NamedTuple):
    """One check's result."""

    name: str
    """What was checked."""
    status: Literal["ok", "failed", "skipped"]
    """Whether it holds."""
    detail: str
    """What was found, or why nothing was looked for."""
    remedy: str = ""
    """What to do, where it failed."""

    @property
    def failed(self) -> bool:
        """Whether it does not hold."""
        return self.status == "failed"

    @property
    def line(self) -> str:
        """The check as one line."""
        remedy = f" -> {self.remedy}" if self.remedy and self.failed else ""
        return f"{self.status:<7}  {self.name}: {self.detail}{remedy}"
