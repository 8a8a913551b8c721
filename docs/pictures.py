"""Draw docs/pictures/*.svg: a network for every method, from top to bottom, narrow enough for a phone.

`python docs/pictures.py` writes them; a test says when they are out of date, or when a method has none. A picture is a
list of rows of boxes, and arrows between boxes. Every picture brings its own light ground, so that it reads on the dark
pages too.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "pictures"
WIDTH, MARGIN, GAP, BETWEEN = 336, 12, 10, 28
"""Of a picture, its border, between boxes of a row, and between rows, in pixels."""
LINE = 15
"""Height of a line of text."""
FILLS = {
    "image": "#e3e3df",
    "trunk": "#cbe0f5",
    "semseg": "#f7d6c0",
    "depth": "#d3e9cd",
    "normals": "#e2d5f0",
    "mix": "#fcedb4",
    "loss": "#f5c9d3",
}
"""Ground of a box by what it is; `loss` is what is there in training alone, and is drawn with a dashed border."""
TASKS = ("semseg", "depth", "normals")


@dataclass(frozen=True)
class Box:
    """One part: its lines of text, what it is, and how wide it is beside the others of its row."""

    name: str
    text: str
    kind: str
    share: float = 1.0


@dataclass(frozen=True)
class Picture:
    """Rows of boxes, arrows as `from>to`, or `one-other` for what goes both ways inside a row, and whom it shows."""

    title: str
    rows: tuple[tuple[Box, ...], ...]
    arrows: str
    methods: tuple[str, ...]


def box(name: str, text: str, kind: str, share: float = 1.0) -> tuple[Box, ...]:
    """A row of one box."""
    return (Box(name, text, kind, share),)


def each(name: str, text: str) -> tuple[Box, ...]:
    """A row of one box for every task."""
    return tuple(Box(f"{name}{i}", f"{text}\n{task}" if text else task, task) for i, task in enumerate(TASKS))


def fan(one: str, many: str) -> str:
    """Arrows from one box to those of all tasks."""
    return " ".join(f"{one}>{many}{i}" for i in range(len(TASKS)))


def gather(many: str, one: str) -> str:
    """Arrows from the boxes of all tasks to one."""
    return " ".join(f"{many}{i}>{one}" for i in range(len(TASKS)))


def along(many: str, others: str) -> str:
    """Arrows from each task's box to its next."""
    return " ".join(f"{many}{i}>{others}{i}" for i in range(len(TASKS)))


IMAGE, TRUNK = box("image", "image", "image", 0.4), box("trunk", "trunk: maps at strides 4, 8, 16, 32", "trunk")
START = "image>trunk"

PICTURES = {
    "heads": Picture(
        "Heads on shared maps",
        (IMAGE, TRUNK, box("join", "maps brought together", "mix"), each("head", "head")),
        f"{START} trunk>join {fan('join', 'head')}",
        ("fcn", "hrnet", "deeplab", "four-level", "vit"),
    ),
    "dpt": Picture(
        "DPT",
        (
            IMAGE,
            box("trunk", "plain transformer: four maps of one stride", "trunk"),
            box("pyramid", "reassembled at strides p/4, p/2, p, 2p", "mix"),
            box("fuse", "fused from coarse to fine, for each task\n(or once: shared)", "mix"),
            each("head", "head"),
        ),
        f"{START} trunk>pyramid pyramid>fuse {fan('fuse', 'head')}",
        ("dpt",),
    ),
    "pad-net": Picture(
        "PAD-Net",
        (
            IMAGE,
            TRUNK,
            each("first", "initial"),
            box("distil", "distillation: each task plus gated maps\nof all others", "mix"),
            each("head", "final"),
        ),
        f"{START} {fan('trunk', 'first')} {gather('first', 'distil')} {fan('distil', 'head')}",
        ("pad-net", "pad-net-densemtl"),
    ),
    "pyramids": Picture(
        "DenseMTL and PAD-Net+",
        (
            IMAGE,
            TRUNK,
            each("up", "coarse half"),
            box("mix", "exchange: every task receives from every other\nDenseMTL: attention; PAD-Net+: gates", "mix"),
            each("fine", "fine half"),
            each("out", ""),
        ),
        f"{START} {fan('trunk', 'up')} {gather('up', 'mix')} {fan('mix', 'fine')} {along('fine', 'out')}",
        ("densemtl", "pad-net-plus"),
    ),
    "mti-net": Picture(
        "MTI-Net",
        (
            IMAGE,
            TRUNK,
            tuple(Box(f"s{s}", f"stride {s}\ninitial,\ndistilled", "mix") for s in (32, 16, 8, 4)),
            box("join", "scales of each task joined", "mix"),
            each("head", "head"),
        ),
        f"{START} trunk>s32 trunk>s16 trunk>s8 trunk>s4 s32>s16 s16>s8 s8>s4 s32>join s16>join s8>join s4>join "
        f"{fan('join', 'head')}",
        ("mti-net",),
    ),
    "atrc": Picture(
        "ATRC",
        (
            IMAGE,
            TRUNK,
            each("first", "features"),
            box("pairs", "every task attends to every task: global,\nlocal, label context, or none", "mix"),
            each("head", "head"),
            box("search", "atrc-search: weighs all five, keeps the best", "loss"),
        ),
        f"{START} {fan('trunk', 'first')} {gather('first', 'pairs')} {fan('pairs', 'head')} search>head1",
        ("atrc", "atrc-search"),
    ),
    "diffusion": Picture(
        "PAP and PSD",
        (
            IMAGE,
            TRUNK,
            each("first", "initial"),
            each("near", "affinities"),
            box("mix", "affinities of all tasks mixed", "mix"),
            each("spread", "diffusion along"),
            each("head", "final"),
        ),
        f"{START} {fan('trunk', 'first')} {along('first', 'near')} {gather('near', 'mix')} {fan('mix', 'spread')} "
        f"{along('spread', 'head')}",
        ("pap", "psd"),
    ),
    "invpt": Picture(
        "InvPT",
        (
            IMAGE,
            TRUNK,
            each("first", "preliminary"),
            box("one", "stage 1: all tasks' tokens attend to each other", "mix"),
            box("two", "stage 2: twice the resolution", "mix"),
            box("three", "stage 3: twice again", "mix"),
            each("head", "head"),
        ),
        f"{START} {fan('trunk', 'first')} {gather('first', 'one')} one>two two>three {fan('three', 'head')}",
        ("invpt",),
    ),
    "joined": Picture(
        "Cross-stitch and NDDR-CNN",
        (
            IMAGE,
            each("one", "own stage 1"),
            box("mix1", "maps mixed: a factor per channel, or 1x1", "mix"),
            each("two", "stages 2 to 4"),
            box("mix2", "mixed after each stage", "mix"),
            each("head", "head"),
        ),
        f"{fan('image', 'one')} {gather('one', 'mix1')} {fan('mix1', 'two')} {gather('two', 'mix2')} "
        f"{fan('mix2', 'head')}",
        ("cross-stitch", "nddr"),
    ),
    "mtan": Picture(
        "MTAN",
        (
            IMAGE,
            box("one", "shared stage", "trunk"),
            each("mask", "mask of"),
            box("two", "next shared stage", "trunk"),
            each("more", "mask of"),
            each("head", "head"),
        ),
        f"image>one {fan('one', 'mask')} {fan('two', 'more')} {along('mask', 'more')} {along('more', 'head')} one>two",
        ("mtan",),
    ),
    "regularizer": Picture(
        "The 3D-aware regularizer",
        (
            IMAGE,
            TRUNK,
            (Box("decoder", "decoder", "mix"), Box("planes", "three planes\nin space", "loss")),
            (Box("maps", "predictions", "mix"), Box("render", "volume rendering\nof every task", "loss")),
            (Box("loss", "task losses", "loss"), Box("rendered", "the same losses\non renderings", "loss")),
        ),
        f"{START} trunk>decoder trunk>planes decoder>maps planes>render maps>loss render>rendered",
        ("triplane", "triplane-cross-view"),
    ),
    "cvm": Picture(
        "CvM",
        (
            (Box("image", "image", "image"), Box("other", "neighbors, or itself", "image")),
            (Box("trunk", "trunk", "trunk"), Box("small", "shallow CNN and\ntransformer: F", "trunk")),
            (Box("levels", "f: four maps", "trunk"), Box("sweep", "plane sweep by the\nposes: C", "mix")),
            box("join", "f, C and F side by side", "mix"),
            each("head", "head"),
        ),
        "image>trunk image>small other>small trunk>levels small>sweep levels>join sweep>join small>join "
        + fan("join", "head"),
        ("cvm",),
    ),
    "adaptation": Picture(
        "Adapting to images without labels",
        (
            (Box("source", "images with labels", "image"), Box("target", "images without", "image")),
            box("net", "one network for both", "trunk"),
            (Box("maps", "predictions", "mix"), Box("others", "predictions", "mix")),
            (
                Box("loss", "task losses", "loss"),
                Box("adapter", "discriminators,\nentropy, or a teacher", "loss"),
            ),
        ),
        "source>net target>net net>maps net>others maps>loss others>adapter",
        ("advent-mt", "min-ent", "mean-teacher", "dacs", "depth-mix"),
    ),
    "adabn": Picture(
        "AdaBN",
        (
            box("target", "images of the target, no labels", "image"),
            box("net", "finished network: weights stay", "trunk"),
            box("norms", "batch norms: new means and variances", "mix"),
            each("head", ""),
        ),
        f"target>net net>norms {fan('norms', 'head')}",
        ("adabn",),
    ),
    "mtpsl": Picture(
        "MTPSL",
        (
            IMAGE,
            TRUNK,
            (Box("known", "depth: has a label", "depth"), Box("unknown", "semseg: has none", "semseg")),
            (Box("label", "its label", "image"), Box("guess", "its prediction", "semseg")),
            box("joint", "M maps both into one space,\nwhere they have to be alike", "loss"),
        ),
        f"{START} trunk>known trunk>unknown known>label unknown>guess label>joint guess>joint",
        ("mtpsl",),
    ),
    "distill": Picture(
        "Features of a frozen teacher",
        (
            IMAGE,
            (Box("trunk", "trunk", "trunk"), Box("teacher", "frozen teacher", "trunk")),
            (Box("decoder", "decoder", "mix"), Box("adapter", "adapter: pulled\ntowards", "loss")),
            each("head", ""),
        ),
        f"image>trunk image>teacher trunk>decoder trunk>adapter teacher>adapter {fan('decoder', 'head')}",
        ("distill",),
    ),
    "video": Picture(
        "Depth from video",
        (
            (Box("image", "frame", "image"), Box("other", "frames before and after", "image")),
            (Box("net", "network", "trunk"), Box("pose", "pose network", "loss")),
            (Box("depth", "depth", "depth"), Box("motion", "motion", "loss")),
            box("warp", "neighbors seen from the frame", "loss"),
            box("loss", "they have to look like the frame", "loss"),
        ),
        "image>net image>pose other>pose net>depth pose>motion depth>warp motion>warp warp>loss",
        ("monodepth2",),
    ),
    "lora": Picture(
        "Low-rank updates",
        (
            IMAGE,
            (Box("frozen", "W: frozen layer", "trunk"), Box("low", "B A: low rank, trained", "mix")),
            box("sum", "sum, in every linear layer of the trunk\nMTLoRA: shared, and one per task", "mix"),
            each("head", "head"),
        ),
        f"image>frozen image>low frozen>sum low>sum {fan('sum', 'head')}",
        ("lora", "mtlora"),
    ),
}
"""By the name of the file."""


def draw(picture: Picture) -> str:
    """A picture as SVG."""
    places, y = {}, MARGIN + 3 * LINE
    for row in picture.rows:
        height = LINE * max(part.text.count("\n") + 1 for part in row) + 14
        whole = WIDTH - 2 * MARGIN - GAP * (len(row) - 1)
        total = max(sum(part.share for part in row), 1.0)
        widths = [whole * part.share / total for part in row]
        x = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
        for part, width in zip(row, widths, strict=True):
            places[part.name] = (x, y, width, height)
            x += width + GAP
        y += height + BETWEEN
    lines = [_arrow(*(places[name] for name in arrow.split(">"))) for arrow in picture.arrows.split()]
    boxes = [_box(part, *places[part.name]) for row in picture.rows for part in row]
    height = y - BETWEEN + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(picture.title)}</title>",
            '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fbfbf9" stroke="#c9c9c4"/>',
            _words(picture.title, MARGIN, MARGIN + LINE - 3, 'font-weight="600"'),
            _words(", ".join(picture.methods), MARGIN, MARGIN + 2 * LINE - 3),
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _box(part: Box, x: float, y: float, width: float, height: float) -> str:
    dashes = ' stroke-dasharray="5 3"' if part.kind == "loss" else ""
    middle, texts = x + width / 2, part.text.split("\n")
    first = y + height / 2 - LINE * (len(texts) - 1) / 2 + 4.5
    words = "".join(_words(text, middle, first + LINE * i, 'text-anchor="middle"') for i, text in enumerate(texts))
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" fill="{FILLS[part.kind]}" '
        f'stroke="#777"{dashes}/>{words}'
    )


def _words(text: str, x: float, y: float, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#1d1d1b" {style}>{escape(text)}</text>'


def _arrow(start: tuple[float, ...], end: tuple[float, ...]) -> str:
    """From the lower edge of a box to the upper edge of another below, or sideways inside a row."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = start, end
    if y1 == y2:
        left = x1 < x2
        ends = (x1 + w1 * left, y1 + h1 / 2, x2 + w2 * (not left), y2 + h2 / 2)
    elif y1 < y2:
        low, high = max(x1, x2), min(x1 + w1, x2 + w2)
        middle = x1 + w1 / 2 if w1 < w2 else x2 + w2 / 2  # straight down where one box spans the other
        straight = low < middle < high
        ends = (middle if straight else x1 + w1 / 2, y1 + h1, middle if straight else x2 + w2 / 2, y2)
    else:
        ends = (x1 + w1 / 2, y1, x2 + w2 / 2, y2 + h2)
    return '<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" stroke="#555" marker-end="url(#end)"/>'.format(*ends)


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(picture), encoding="utf-8")


if __name__ == "__main__":
    main()
