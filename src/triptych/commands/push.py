"""The verb `triptych push`."""

from pathlib import Path

from tyro.conf import Positional


def push(
    run: Positional[Path],
    name: Positional[str],
    dry_run: Path | None = None,
    scores: tuple[Path, ...] = (),
    exported: tuple[Path, ...] = (),
    license: str = "other",
    private: bool = False,
) -> None:
    """Upload a run's network to the Hugging Face hub, with a card of its scores and licences.

    Args:
        run: Run folder.
        name: organisation/name on the hub.
        dry_run: Folder to write instead of uploading.
        scores: Files of `triptych score --out` whose numbers the card lists too, with their protocol.
        exported: ONNX files of `triptych export` of this run, to lie beside its weights.
        license: Licence of the weights as the hub spells it, such as mit or cc-by-nc-4.0.
        private: Let nobody else see a new network.
    """
    from triptych.report.publish import push_run

    address = push_run(run, name, dry_run=dry_run, scores=scores, exported=exported, license=license, private=private)
    print(address)
