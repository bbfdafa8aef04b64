"""Turn an OSError about a dataset into a typed error with the fix."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from gen_engine.engine.base.files import FileRefused
from gen_engine.engine.errors import DatasetError, OutputError, OutputUnavailable

_FIXES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "raise the quota and run the same command again",
    errno.EACCES: "choose an --out that you may write to",
    errno.EPERM: "choose an --out that you may write to",
    errno.EROFS: "choose an --out on a file system that can be written",
}

_TRANSIENT = {errno.EAGAIN, errno.EBUSY, errno.ENOLCK, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EMFILE}
"""Temporary failures of a network file system or a loaded machine."""


@contextlib.contextmanager
def reading_errors(uri: str) -> Iterator[None]:
    """Turn an OSError about a dataset that is read, not written, into a DatasetError or an OutputUnavailable."""
    try:
        yield
    except FileRefused as error:
        raise DatasetError(f"{uri} cannot be read: {error}") from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        kind = OutputUnavailable if error.errno in _TRANSIENT else DatasetError
        raise kind(f"{uri} cannot be read ({error.strerror or error}{where})") from error


@contextlib.contextmanager
def output_errors(uri: str) -> Iterator[None]:
    """Turn an OSError about an output into an OutputError with the fix."""
    try:
        yield
    except FileRefused as error:
        raise OutputError(f"{uri} cannot be used: {error}; or choose another --out") from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        what = f"{uri} cannot be used ({error.strerror or error}{where})"
        if error.errno in _TRANSIENT:
            raise OutputUnavailable(f"{what}; run the same command again later: finished shards are kept") from error
        fix = _FIXES.get(error.errno or 0, "fix this, or choose another --out")
        raise OutputError(f"{what}; {fix}") from error
