"""A corrected copy of class folders, made of links; the originals stay as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from errata.directory import AuditDirectory
from errata.errors import SettingsError
from errata.exchange.outputs import source_of
from errata.staging import guard_writes

__all__ = ["Listed", "list_audited", "list_folder", "plan_links", "write_links"]


class Listed(NamedTuple):
    """The files of a folder with one subfolder per class."""

    root: Path
    """The folder as it was named."""
    start: Path
    """Where the class folders lie: the root, or the training part in it."""
    files: dict[str, Path]
    """The file of each id."""


def list_folder(spec: str) -> Listed:
    """List the labelled pictures of a folder, without decoding any.

    Raises:
        SettingsError: The source is no folder.
        SourceError: It holds no class folders with pictures.
    """
    root = Path(spec).expanduser()
    if not root.is_dir():
        raise SettingsError(
            f"--copy makes class folders, but the source of the audit is `{spec}`, which is no "
            "folder that is there; allowed: a folder with one subfolder per class",
            hint="leave --copy out, or run the command where the path of the audit holds",
        )
    from errata.data.folder import read_folder

    found = read_folder(root, name=spec)
    depth = len(PurePosixPath(found.ids[0]).parts)
    start = Path(found.files[0]).parents[depth - 1]
    return Listed(root, start, dict(zip(found.ids, map(Path, found.files), strict=True)))


def list_audited(audit: AuditDirectory) -> Listed:
    """List the class folders that an audit was made from.

    Raises:
        SettingsError: Its source is no folder, or has lost samples since.
        SourceError: The folder holds no class folders with pictures.
    """
    listed = list_folder(str(source_of(audit).get("spec", "")))
    missing = [str(key) for key in audit.ledger.ids if str(key) not in listed.files]
    if missing:
        raise SettingsError(
            f"--copy finds {len(missing):,} samples of the audit no more, first `{missing[0]}`; "
            "allowed: the folder as it was audited",
            hint="run `errata audit` again, or leave --copy out",
        )
    return listed


def plan_links(
    files: Mapping[str, Path], start: Path, labels: Mapping[str, str | None]
) -> dict[PurePosixPath, Path]:
    """Say where each file belongs: the path of each link below the copy, and what it points to.

    A file keeps its path below its class folder. Where two files would meet, those that come from
    another class get the name of that class in front.

    Args:
        files: The file of each id.
        start: Where the class folders lie.
        labels: The class of each id after correction; None leaves the file out. Files that are not
            in it stay where they are.
    """
    folders = {key: path.relative_to(start).parts[0] for key, path in files.items()}
    # A class is called as its folder, but for bytes that are no text.
    folder_of = {PurePosixPath(key).parts[0]: folder for key, folder in folders.items()}
    plan: dict[PurePosixPath, Path] = {}
    moved: list[tuple[str, PurePosixPath]] = []
    for key, path in files.items():
        label = labels.get(key, PurePosixPath(key).parts[0])
        if label is None:
            continue
        inside = PurePosixPath(*path.relative_to(start).parts[1:])
        folder = folder_of.get(label, label)
        if folder == folders[key]:
            plan[folder / inside] = path
        else:
            moved.append((key, folder / inside))
    for key, wanted in moved:
        place, name = wanted, wanted.name
        while place in plan:
            name = f"{folders[key]}-{name}"
            place = wanted.with_name(name)
        plan[place] = files[key]
    return plan


def write_links(place: Path, listed: Listed, plan: Mapping[PurePosixPath, Path]) -> None:
    """Make the links.

    Other splits beside the training part, such as ``test``, become links to their folders.

    Args:
        place: A folder that is not there yet, such as what `together` gives.
        listed: What `list_folder` gave.
        plan: What `plan_links` gave.

    Raises:
        OutputError: The place cannot be written.
    """
    below = PurePosixPath() if listed.start == listed.root else PurePosixPath(listed.start.name)
    with guard_writes(place):
        place.mkdir()
        for target, path in plan.items():
            link = place / below / target
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(_absolute(path))
        for split in _others(listed):
            (place / split.name).symlink_to(_absolute(split), target_is_directory=True)


def _others(listed: Listed) -> Sequence[Path]:
    if listed.start == listed.root:
        return ()
    return [
        each
        for each in sorted(listed.root.iterdir())
        if each.is_dir() and each != listed.start and not each.name.startswith(".")
    ]


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100
