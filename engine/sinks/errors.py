"""What an OSError means for an output, said with the fix."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from gen_engine.engine.errors import OutputError


@contextlib.contextmanager
def output_errors(place: str) -> Iterator[None]:
    """Turn an OSError about the place into an OutputError with the fix."""
    try:
        yield
    except OSError as error:
        fix = {
            errno.ENOSPC: "free some space and run the same command again",
            errno.EACCES: "choose an --out that you may write to",
            errno.EPERM: "choose an --out that you may write to",
            errno.EROFS: "choose an --out on a file system that can be written",
        }.get(error.errno or 0, "see to it, or choose another --out")
        where = f": {error.filename}" if error.filename else ""
        raise OutputError(f"{place} cannot be used ({error.strerror or error}{where}); {fix}") from error
