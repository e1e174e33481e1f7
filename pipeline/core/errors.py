"""The errors a user can meet, with the exit code of each.

    SynthaugError            1
    ├── JobError             2   the job file or the command line is wrong
    ├── DatasetError         2   a data file is wrong
    ├── WeakLinkError        2   what a step left does not hold, so nothing is built on it
    └── RunError             1   a step failed while it ran; names the step, the shard and the log

Every message is one line: which file or key, what is wrong, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SynthaugError(Exception):
    """Base of everything the command line turns into one line on stderr."""

    exit_code = 1


class JobError(SynthaugError):
    """A job file, an override, or the output folder or address it names is wrong."""

    exit_code = 2


class DatasetError(SynthaugError):
    """An annotation or image file is missing, broken or contradicts itself."""

    exit_code = 2


class WeakLinkError(SynthaugError):
    """A link of the chain is weak.

    What was finished is kept, and `checks: report` goes on.
    """

    exit_code = 2


class RunError(SynthaugError):
    """A step failed for a reason the user's input does not explain."""


def one_line(err: BaseException, most: int = 200) -> str:
    """Return the message of an exception on one line.

    Of a system call, the reason alone.
    """
    text = str(err)
    if isinstance(err, OSError) and err.strerror:
        text = err.strerror
    words = text.split() or [type(err).__name__]
    return " ".join(words)[:most].rstrip(".")


def printable(text: str) -> str:
    """Return a text on one line that no terminal obeys.

    Control characters and what cannot be shown are spelt out.
    """
    return visible(" ".join(text.split()))


def visible(text: str) -> str:
    """Return lines with what a terminal would obey or cannot show spelt out.

    Names in data files can hold escapes that move the cursor, and halves of characters.
    """
    if text.isprintable():
        return text
    letters = []
    for letter in text:
        if letter.isprintable() or letter == "\n":
            letters.append(letter)
        else:
            letters.append(ascii(letter)[1:-1])
    return "".join(letters)


def first_line(err: BaseException, most: int = 200) -> str:
    """Return the first line of the message of an exception.

    Torch and Ray put advice and traces below it.
    """
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:most]


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, else all names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if names:
        return f"; known: {', '.join(names)}"
    return ""
