"""Verbs of the command line: functions whose arguments become options by tyro, and groups of verbs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from triptych.lookup import convert, named_choice
from triptych.recipes.option_words import read_options, write_options

Device = Literal["auto", "cpu", "cuda"]
HELP = ("-h", "--help")


@dataclass(frozen=True)
class Verb:
    """A typed function whose docstring is the help of its options."""

    function: Callable[..., None]

    @property
    def summary(self) -> str:
        """One line of help."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def run(self, words: Sequence[str], name: str) -> None:
        """Run it on the words of the command line after its own `name`."""
        parse(self.function, words, name)


@dataclass(frozen=True)
class Group:
    """Verbs by name; one of them is chosen by the first word."""

    summary: str
    verbs: Mapping[str, "Verb | Group"]

    def run(self, words: Sequence[str], name: str) -> None:
        """Run the verb that the first word names, or show all of them."""
        if not words or words[0] in HELP:
            print(self.overview(name))
            return
        verb = named_choice(f"{name} verb", words[0], dict(self.verbs))
        verb.run(words[1:], f"{name} {words[0]}")

    def overview(self, name: str) -> str:
        """The help of the group: its verbs, one line each."""
        width = max(map(len, self.verbs))
        rows = [f"  {verb:<{width}} {entry.summary}" for verb, entry in self.verbs.items()]
        end = [
            f"`{name} VERB --help` shows the options of one verb. Every verb takes --debug, which shows tracebacks,",
            "--plugin MODULE (repeatable), which imports a module that registers parts of your own, and",
            "--max-pixels N, which raises the limit of pixels of an image (178 million).",
            "`triptych --version` prints the version.",
        ]
        return "\n".join([f"usage: {name} VERB [options]", "", "verbs:", *rows, "", *end])


def parse(function: Callable[..., None], words: Sequence[str], name: str) -> None:
    """Parse the words of a command line and call `function` with them; a dict is written as words `NAME=VALUE`."""
    tyro.cli(function, prog=name, args=words, registry=REGISTRY)


def _options_rule(annotation: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
    if annotation.type_origin is not dict:
        return None
    _, values = get_args(annotation.type)
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE...",
        instance_from_str=lambda words: convert(
            annotation.type, read_options(words, tables_allowed=values not in (int, float, str, bool)), "options"
        ),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=write_options,
    )


REGISTRY = ConstructorRegistry()
REGISTRY.primitive_rule(_options_rule)
