"""What a source of training data is, and its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gen_engine.train.data.names import shown
from gen_engine.train.data.written import is_dataset
from gen_engine.train.errors import DataError

NAMED: Final = ("fashion-mnist", "digits")
"""The kinds that are named, not given by a path."""

FILES: Final = {".npz": "arrays", ".npy": "arrays", ".parquet": "parquet", ".tar": "tars"}
"""Kind by the ending of a file."""

TABLES: Final = (".csv", ".arrow", ".feather")
"""Endings of files that hold tables and no images."""

SPLITS: Final = ("train", "training")
"""How the names of files begin that hold the rows to train on, where files are named for their split."""

OTHER_SPLITS: Final = ("test", "validation", "valid", "val", "dev", "eval")

MOST_FILES: Final = 100_000
"""Files that a pattern such as {000..999} may name."""

_RANGE: Final = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")


def kind_of(source: str) -> str:
    """fashion-mnist, digits, folder, arrays, parquet, tars or dataset; DataError when it is nothing that is read."""
    if source in NAMED:
        return source
    path = Path(source)
    kind = FILES.get(path.suffix.lower())
    try:
        if is_dataset(source):
            return "dataset"
        if path.is_dir():
            return _kind_of_folder(path)
        if kind is not None and (path.exists() or (kind in ("parquet", "tars") and _RANGE.search(source))):
            return kind
        problem = "does not exist"
        if path.suffix.lower() in TABLES and path.exists():
            raise DataError(f"data {shown(source)!r} is a table: give a model of tables, --model mixture")
        if path.exists():
            problem = "is not a folder, .npz, .npy, .parquet or .tar"
    except OSError as error:  # too long a name, a folder that may not be entered
        problem = f"cannot be opened ({error.strerror})"
    raise DataError(
        f"data {shown(source)!r} {problem}: use fashion-mnist, digits, a folder of images, an .npz or .npy, .parquet "
        f"or .tar files (a folder of them, or a name with a range such as x-{{00..09}}.tar), or a gen-engine dataset"
    )


def _kind_of_folder(folder: Path) -> str:
    endings = {path.suffix.lower() for path in files_under(folder)}
    return next((FILES[one] for one in (".parquet", ".tar") if one in endings), "folder")


def files_under(folder: Path) -> list[Path]:
    """The files of a folder and of the folders in it, by path; those that begin with a dot are left alone."""
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found += [path for one in found if one.is_dir() for path in one.iterdir() if not path.name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def choose_files(source: str, suffix: str, splits: Sequence[str] = SPLITS) -> tuple[list[Path], tuple[str, ...]]:
    """The files of a source, those of one split if their names state splits, and notes on what was chosen.

    Args:
        source: a file, a name with ranges, or a folder.
        suffix: how the files end, such as ".tar".
        splits: beginnings of names; the first that some files have, and not all, is chosen.

    Raises:
        DataError: a file of a range is missing, or a folder has files of other splits alone.
    """
    path = Path(source)
    if path.is_dir():
        every = files_under(path)
        files = [one for one in every if one.suffix.lower() == suffix]
        endings = Counter(one.suffix.lower() or "no ending" for one in every if one not in set(files))
        others = ", ".join(f"{count} of {ending}" for ending, count in sorted(endings.items()))
        notes = (f"of the other files in it none was read: {others}",) if others else ()
        for split in splits:
            chosen = [one for one in files if one.name.lower().startswith(split)]
            if chosen and len(chosen) < len(files):
                return chosen, (*notes, f"of {len(files)} files, the {len(chosen)} of the split {split!r} were read")
        return files, notes
    return ([path], ()) if path.exists() else (_expanded(source), ())


def _expanded(source: str) -> list[Path]:
    """The files that ranges such as {000..009} in a name mean, all of which have to exist."""
    names = [source]
    while match := _RANGE.search(names[0]):
        first, last = int(match[1]), int(match[2])
        if last < first or (last - first + 1) * len(names) > MOST_FILES:
            raise DataError(f"data {shown(source)!r}: {match[0]} must go up, and to {MOST_FILES:,} files at most")
        width = len(match[1]) if match[1].startswith("0") or len(match[1]) == len(match[2]) else 0
        numbers = [f"{number:0{width}}" for number in range(first, last + 1)]
        names = [_RANGE.sub(number, name, count=1) for name in names for number in numbers]
    missing = [name for name in names if not Path(name).exists()]
    if missing:
        raise DataError(
            f"data {shown(source)!r}: {len(missing)} of {len(names)} files do not exist, such as {missing[0]}"
        )
    return [Path(name) for name in names]
