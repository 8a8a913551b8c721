"""The order of tasks in training, on which numbered and joined tensors depend and which no checkpoint stores."""

from collections.abc import Sequence

from triptych.conversion.base import Assumption


def training_order(
    pairs: Sequence[tuple[str, str]], named: Sequence[str], order: Sequence[str], parser: Sequence[str]
) -> tuple[list[str], tuple[Assumption, ...]]:
    """Our task names in the order of training, and what had to be assumed for that.

    `pairs` are (our name, published name), `named` the published names as the tensors come in the file, `order` what
    the user says (our names), `parser` the order in which the published code sorts every run. A file in alphabetical
    order tells nothing (safetensors sorts): the parser's order is assumed. One in a third order fits both readings.

    >>> training_order([("depth", "depth"), ("semseg", "semseg")], ["depth", "semseg"], (), ("semseg", "depth"))[0]
    ['semseg', 'depth']
    """
    ours = {published: name for name, published in pairs}
    if order:
        if sorted(order) != sorted(ours.values()):
            raise ValueError(f"order is {', '.join(order)}; it must name each of {', '.join(ours.values())} once.")
        return list(order), ()
    position = {name: i for i, name in enumerate(parser)}
    # Tasks that the parser does not know come last, as they came.
    sorted_by_parser = tuple(ours[name] for name in sorted(named, key=lambda name: position.get(name, len(parser))))
    in_file = tuple(ours[name] for name in named)
    if list(named) == sorted(named) or in_file == sorted_by_parser:
        known = Assumption("order", sorted_by_parser, (sorted_by_parser,), "the order of the published parser")
        return list(sorted_by_parser), (known,)
    why = "the order of the tensors in the file, which is not the published parser's"
    return list(in_file), (Assumption("order", in_file, (in_file, sorted_by_parser), why),)
