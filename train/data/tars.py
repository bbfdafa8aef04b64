"""WebDataset tars: a sample is the members that follow each other with one name up to the first dot of its last part.

A tar is hostile until proven otherwise: nothing is extracted, so links, absolute paths and ".." mean nothing; headers
are read through a wrapper that bounds them; contents are read one at a time, from the offsets that the headers state,
within the file. What ends a tar early is an error, not the end.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gen_engine.engine.base.files import IMAGE, open_regular
from gen_engine.train.data.names import shown
from gen_engine.train.errors import DataError

BLOCK: Final = 512
"""Bytes that everything in a tar is a multiple of."""

NO_END: Final = "tars end without the mark of the end of a tar, and may be cut off"

_LARGEST_HEADER: Final = 1 << 20
"""Bytes of a member's extended header: names and attributes."""


@dataclass(frozen=True)
class Member:
    """Where one file is in a tar."""

    tar: Path
    name: str
    offset: int
    size: int

    def read(self, limit: int = IMAGE) -> bytes:
        """Its bytes; DataError when they are more than the limit, or the tar was changed."""
        if self.size > limit:
            raise DataError(f"{self.size:,} bytes, and at most {limit:,} are read")
        try:
            with open_regular(self.tar) as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise DataError(f"the tar cannot be read ({error.strerror or error})") from error
        if len(content) != self.size:
            raise DataError("the tar was changed while it was read")
        return content

    def __str__(self) -> str:
        return f"{shown(self.tar)}: {shown(self.name)}"


Sample = Mapping[str, Member]
"""Members of a sample by their extension in lower case: all that follows the first dot."""


def samples(path: Path, passed_over: dict[str, int]) -> Iterator[Sample]:
    """Yield the samples of a tar.

    Args:
        path: an uncompressed tar.
        passed_over: by reason, how many members were not read, and what is odd about tars; added to.

    Raises:
        DataError: it is no tar, is damaged or cut off, or a sample has two members of one extension.
    """
    key, found = "", dict[str, Member]()
    for member, problem in _members(path, passed_over):
        stem, extension = split_name(member.name)
        problem = problem or ("" if extension else "members without an extension were left out")
        if problem:
            passed_over[problem] = passed_over.get(problem, 0) + 1
            continue
        if stem != key and found:
            yield found
            found = {}
        key = stem
        if extension in found:
            raise DataError(f"{member} is there twice in one sample: write the tar again, each sample with its own key")
        found[extension] = member
    if found:
        yield found


def split_name(name: str) -> tuple[str, str]:
    """The key of a member, its folder included, and its extension in lower case, "" if it has none."""
    folder, _, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return (f"{folder}/{stem}", extension.lower()) if stem else (name, "")


def _members(path: Path, passed_over: dict[str, int]) -> Iterator[tuple[Member, str]]:
    """Yield every member that is not a folder, and why it is not read, "" if it is."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            tar = tarfile.TarFile(fileobj=_Bounded(file, size))  # type: ignore[arg-type]
            end = -1
            while (one := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                if one.size < 0 or one.offset <= end or one.offset_data + (one.size if one.isreg() else 0) > size:
                    raise tarfile.ReadError(f"the header of {shown(one.name)} does not fit the file")
                end = one.offset
                if not one.isdir():
                    yield Member(path, one.name, one.offset_data, one.size), _unread(one)
            if not _has_end(file, tar.offset, size):
                passed_over[NO_END] = passed_over.get(NO_END, 0) + 1
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)} does not exist") from error
    except (tarfile.TarError, OSError, ValueError, ArithmeticError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        compressed = "; a compressed one has to be unpacked first (gunzip)" if _is_compressed(path) else ""
        raise DataError(
            f"{shown(path)} cannot be read as a tar ({reason}): fetch or write it again{compressed}"
        ) from error


def _unread(one: tarfile.TarInfo) -> str:
    if one.issparse():
        return "sparse members were left out"
    if not one.isreg():
        return "links and devices were left out"
    name = one.name.rpartition("/")[2]
    return "hidden members were left out" if name.startswith((".", "__")) else ""


def _has_end(file: BinaryIO, offset: int, size: int) -> bool:
    """Whether a block of zeros marks the end, not the file's own end alone; ReadError when something else follows."""
    file.seek(offset)
    block = file.read(BLOCK)
    if block.strip(b"\0") or (block and len(block) < BLOCK):
        raise tarfile.ReadError(f"what follows byte {offset:,} of {size:,} is no member")
    return bool(block)


def _is_compressed(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
    except OSError:
        return False


class _Bounded:
    """A file that gives tarfile no more than headers need: their sizes are stated by the file itself."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = 2 * size // BLOCK + 1_000

    def read(self, size: int) -> bytes:
        """So many bytes; ReadError when no header has so many, or they are read in a circle."""
        self._left -= 1
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header states {size:,} bytes")
        if self._left < 0:
            raise tarfile.ReadError("its headers lead in a circle")
        return self._file.read(size)

    def seek(self, *where: int) -> int:
        """As of a file."""
        return self._file.seek(*where)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()
