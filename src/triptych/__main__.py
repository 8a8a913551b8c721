"""The command line: verbs by name, and how errors end it. Nothing heavy is imported before a verb runs."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import Positional

from triptych.commands.adapt import adapt
from triptych.commands.app import app
from triptych.commands.data import DATA
from triptych.commands.export import export
from triptych.commands.predict import predict
from triptych.commands.profile import profile
from triptych.commands.runs import compare, convert, evaluate
from triptych.commands.score import score
from triptych.commands.train import TrainVerb, demo, train
from triptych.commands.verbs import Group, Verb


def list_names(
    kind: Annotated[Positional[str], tyro.conf.arg(metavar="KIND")] = "",
) -> None:
    """List what can be named in a recipe.

    Args:
        kind: One of recipes, datasets, tasks, transforms, backbones, decoders, architectures, regularizers,
        weightings, adapters, video; all of them if left out.
    """
    from triptych.assemble import list_registries

    list_registries(kind)


VERBS: dict[str, Verb | Group] = {
    "demo": Verb(demo),
    "train": TrainVerb(train),
    "evaluate": Verb(evaluate),
    "predict": Verb(predict),
    "score": Verb(score),
    "compare": Verb(compare),
    "adapt": Verb(adapt),
    "convert": Verb(convert),
    "export": Verb(export),
    "app": Verb(app),
    "profile": Verb(profile),
    "data": DATA,
    "list": Verb(list_names),
}
TRIPTYCH = Group("dense multi-task learning", VERBS)


MAX_PIXELS_OPTION = "--max-pixels"


def _take_max_pixels(words: list[str]) -> list[str]:
    """Words without `--max-pixels N`, which holds for all verbs and for the processes that they start."""
    if not any(word.split("=")[0] == MAX_PIXELS_OPTION for word in words):
        return words
    from triptych.data.files import MAX_PIXELS, most_pixels

    rest, pending = [], iter(words)
    for word in pending:
        name, _, value = word.partition("=")
        if name == MAX_PIXELS_OPTION:
            os.environ[MAX_PIXELS] = value or next(pending, "nothing")
        else:
            rest.append(word)
    most_pixels()
    return rest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 2 for a mistake in what was asked, 1 for a mistake of ours."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        words = _take_max_pixels(words)
        if words[:1] == ["--version"]:
            from triptych import __version__

            print(__version__)
        else:
            TRIPTYCH.run(words, "triptych")
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:  # the edge: whatever happens below becomes one line and an exit code
        if debug:
            raise
        expected = isinstance(error, ValueError | TypeError | OSError | ImportError | ArithmeticError | LookupError)
        mark = "error" if expected else f"internal error ({type(error).__name__})"
        print(f"{mark}: {' '.join(str(error).split())} (--debug shows where)", file=sys.stderr)
        return 2 if expected else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
