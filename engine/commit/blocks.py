"""The lines of a journal in which a filter's decisions are recorded: a bit per candidate, block by block.

They lie between the lines of shards, which ignore them, and are removed with the journal. Their bits end up in
``filter.bits``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from gen_engine.engine.base.parse import Fields, integer, matching
from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.commit.journal import as_line, whole_line

MAX_BLOCKS: Final = 10**12
_MAX_BITS: Final = 1 << 19
"""Characters of a block's bits: below the limit of a line, 1 MiB."""

_BLOCK = re.compile(rb'"block":[0-9]{1,12}}$')
"""The end of such a line, whose keys are sorted: lines of shards are not parsed."""


class Block(NamedTuple):
    """The decisions for one block of candidates."""

    number: int
    bits: bytes
    """One bit per candidate, the first in the highest bit of the first byte."""


def block_line(block: Block) -> bytes:
    """Return the line to append for a block that was scored."""
    return as_line({"bits": base64.b64encode(block.bits).decode(), "block": block.number})


def read_blocks(lines: Iterable[bytes], size: int) -> Iterator[Block]:
    """Yield the blocks that a journal records, each of ``size`` bytes; damaged lines and others are left out."""
    for line in lines:
        if _BLOCK.search(line.rstrip(b"\n")) and (body := whole_line(line)) is not None:
            try:
                with Fields(parse_json(body)) as fields:
                    bits = base64.b64decode(fields.take("bits", matching("[A-Za-z0-9+/]+=*", _MAX_BITS)), validate=True)
                    block = Block(fields.take("block", integer(0, MAX_BLOCKS - 1)), bits)
            except (DocumentError, binascii.Error):
                continue
            if len(block.bits) == size:
                yield block
