"""The errors a user can meet. Each says what was expected, what was found and what to do.

The command line prints them without a traceback and exits with their code; `--debug` shows the traceback. Anything else
that reaches the user is a bug of ours.
"""

from __future__ import annotations

from typing import ClassVar


class FinetuneError(Exception):
    """A mistake or a limit that the user can do something about.

    `message` says what was expected and what was found; `hint` is the remedy. `exit_code` is the command line's.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n  {hint}" if hint else message)
        self.message = message
        self.hint = hint


def first_line(error: BaseException) -> str:
    """What an error says, where one line of it must do: without the pages that some libraries append."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def reason_of(error: BaseException) -> str:
    """One line of why something was left out: a message of ours, or another's with the kind of error that it is."""
    return error.message if isinstance(error, FinetuneError) else f"{type(error).__name__}, {first_line(error)}"


class RecipeError(FinetuneError):
    """The recipe, or an override of it, is not valid. Carries every problem at once."""


class DataError(FinetuneError):
    """The dataset cannot be used as it is: missing column, split, class or too many unreadable rows."""


class ModelError(FinetuneError):
    """The backbone cannot be used: not an image classifier, nothing to adapt, weights missing."""


class MachineError(FinetuneError):
    """The machine lacks what the recipe asks for: memory, disk, a device, a rank."""


class PeerError(MachineError):
    """Another process of the run is gone. Nothing has to be changed: the same command goes on."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, "try again"


class TrainingError(FinetuneError):
    """Training cannot go on, for example a non-finite loss."""


class RunFolderError(FinetuneError):
    """The run folder cannot be used: not writable, or it holds another run."""


class AdapterError(FinetuneError):
    """A saved adapter is incomplete, damaged, or belongs to another base model."""


class HubError(FinetuneError):
    """The Hub refuses, cannot be reached, or gave back other bytes than were sent; what is on this machine is safe."""


class NothingBegunError(KeyboardInterrupt):
    """An interruption before a run had anything to go on with. Its text says all that there is to say."""
