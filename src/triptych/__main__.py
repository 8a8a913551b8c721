"""The command line: verbs by name, and how errors end it. Nothing heavy is imported before a verb runs."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence

from triptych.commands.data import DATA
from triptych.commands.export import export, profile, push
from triptych.commands.extend import check, new
from triptych.commands.listing import list_names
from triptych.commands.predict import app, predict
from triptych.commands.runs import adapt, calibrate, compare, convert, evaluate
from triptych.commands.score import ScoreVerb, score
from triptych.commands.train import RecipeVerb, demo, sweep, train
from triptych.commands.verbs import Group, Verb
from triptych.lookup import printable, spell_out_characters
from triptych.plugins.loading import load_plugin

VERBS: dict[str, Verb | Group] = {
    "demo": Verb(demo),
    "train": RecipeVerb(train, "--out RUN"),
    "sweep": RecipeVerb(sweep, "--out FOLDER --over NAME=A,B ..."),
    "evaluate": Verb(evaluate),
    "predict": Verb(predict),
    "score": ScoreVerb(score),
    "compare": Verb(compare),
    "adapt": Verb(adapt),
    "convert": Verb(convert),
    "calibrate": Verb(calibrate),
    "export": Verb(export),
    "push": Verb(push),
    "app": Verb(app),
    "profile": Verb(profile),
    "data": DATA,
    "list": Verb(list_names),
    "new": Verb(new),
    "check": Verb(check),
}
TRIPTYCH = Group("dense multi-task learning", VERBS)


EXPECTED = (ValueError, TypeError, OSError, ImportError, ArithmeticError, LookupError, MemoryError)
"""Errors of the arguments, of files and of the machine; any other is a bug of this library."""


def take_option(words: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """Remove an option that every verb takes from the words of a command line; return the other words and its values.

    It may stand anywhere; its value is empty where the line ends after it.

    >>> take_option(["train", "rooms-demo", "--plugin", "my_lab", "--plugin=mine", "--out", "runs/a"], "--plugin")
    (['train', 'rooms-demo', '--out', 'runs/a'], ['my_lab', 'mine'])
    """
    rest: list[str] = []
    values: list[str] = []
    pending = iter(words)
    for word in pending:
        name, equals, value = word.partition("=")
        if name == option:
            values.append(value if equals else next(pending, ""))
        else:
            rest.append(word)
    return rest, values


def _set_max_pixels(values: Sequence[str]) -> None:
    """Set the limit of pixels of pictures, for the processes that a verb starts too."""
    from triptych.data.limits import MAX_PIXELS, check_pixels

    for value in values:
        os.environ[MAX_PIXELS] = str(check_pixels(value, "--max-pixels"))


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning as one line, like errors.

    >>> _format_warning("of two\\nlines", UserWarning, "file.py", 3)
    'warning: of two lines\\n'
    """
    return f"warning: {printable(' '.join(str(message).split()))}\n"


def _ran_out_of_memory(error: Exception) -> bool:
    from triptych.machine import ran_out_of_memory

    return ran_out_of_memory(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 2 for a mistake of the user, 1 for a bug."""
    spell_out_characters()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if not debug:
        warnings.formatwarning = _format_warning
    try:
        words, limits = take_option([word for word in words if word != "--debug"], "--max-pixels")
        if limits:
            _set_max_pixels(limits)
        words, plugins = take_option(words, "--plugin")
        for name in plugins:
            load_plugin(name)
        if words[:1] == ["--version"]:
            from triptych import __version__

            print(__version__)
        else:
            TRIPTYCH.run(words, "triptych")
    except BrokenPipeError:  # the reader closed the pipe, as `| head` does: the rest of the output is lost
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:  # the edge: whatever happens below becomes one line and an exit code
        if debug:
            raise
        expected = isinstance(error, EXPECTED) or _ran_out_of_memory(error)
        mark = "error" if expected else f"internal error ({type(error).__name__})"
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        way = "; make room, or write elsewhere" if full else ""
        print(f"{mark}: {printable(' '.join(str(error).split()))}{way} (--debug shows where)", file=sys.stderr)
        return 2 if expected else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
