"""The verb `triptych push`."""

from pathlib import Path

from tyro.conf import Positional


def push(
    run: Positional[Path],
    name: Positional[str],
    dry_run: Path | None = None,
    scores: tuple[Path, ...] = (),
    license: str = "other",
    private: bool = False,
) -> None:
    """Upload a run's network to the Hugging Face hub, with a card of its scores and licences.

    Args:
        run: Run folder.
        name: organisation/name on the hub.
        dry_run: Folder to write instead of uploading.
        scores: Files of `triptych score --out` whose numbers the card lists too, with their protocol.
        license: Licence of the weights as the hub spells it, such as mit or cc-by-nc-4.0.
        private: Let nobody else see a new network.
    """
    from triptych.report.publish import push_run

    print(push_run(run, name, dry_run=dry_run, scores=scores, license=license, private=private))
