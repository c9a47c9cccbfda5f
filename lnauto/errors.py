"""What goes wrong, in words: what is wrong, in which file or case, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One fault, as the user reads it."""

    what: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"lnauto: {self.told}"

    @property
    def told(self) -> str:
        """Without the program's name, for a line that begins with something else."""
        return f"{self.what}, in {self.where}; {self.remedy}"


class LnautoError(Exception):
    """Anything a command tells its user in a line instead of a traceback."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[LnautoError], tuple[list[Problem]]]:
        """So that it comes out of a worker process as it was raised."""
        return type(self), (self.problems,)


class InputError(LnautoError):
    """The input is wrong: nothing was done."""

    @classmethod
    def of(cls, what: str, where: object, remedy: str) -> InputError:
        return cls([Problem(what, str(where), remedy)])


class NoSpaceError(InputError):
    """The disk is full: whatever case comes next would fail, too, so the work stops."""


class CasesFailedError(LnautoError):
    """Some cases failed, the others are done."""

    exit_code = 3
