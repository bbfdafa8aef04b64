"""What can go wrong in an export.

::

    ExportError                 an export failed                                        exit 1
    ├── UnsupportedGenerator    this generator has no form as a bundle                  exit 3
    ├── ParityError             the exported graph does not make what torch makes       exit 6
    └── GateError               no compiled variant is faithful enough                  exit 6

Nothing is written when one of them is raised. A damaged checkpoint is a
:class:`gen_engine.train.errors.CheckpointError` (exit 3), a refused output a
:class:`gen_engine.engine.errors.OutputError` (exit 5).
"""

from __future__ import annotations

import textwrap
from typing import ClassVar


class ExportError(Exception):
    """Base of everything that exporting raises on purpose."""

    exit_code: ClassVar[int] = 1


class UnsupportedGenerator(ExportError):
    """The generator cannot be exported: a bundle cannot hold its outputs, its size or one of its operators."""

    exit_code = 3


class ParityError(ExportError):
    """The exported graph differs from the framework's own results by more than the tolerance."""

    exit_code = 6


class GateError(ExportError):
    """Every compiled candidate differs from the fp32 generator by more than the accuracy gate allows."""

    exit_code = 6


def quoted(error: BaseException, width: int = 300) -> str:
    """Return an exception's message on one line, cut between words only: a path in it is kept or dropped whole."""
    return textwrap.shorten(str(error), width, placeholder=" …")
