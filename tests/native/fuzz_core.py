"""Calls every function of the compiled core with damaged arguments: ``python fuzz_core.py CALLS [SEED]``.

A call may succeed or raise one of the documented exceptions; whatever else it does, reading out of bounds included, is
a fault that the sanitizers end the process for.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from gen_engine.engine.codecs import huffman
from gen_engine.engine.identity.latents import quantile_table
from gen_engine.engine.native import core

REFUSED = (ValueError, TypeError, BufferError, OverflowError, MemoryError)
NUMBERS = (-(2**63), -1, 0, 1, 2, 3, 7, 8, 31, 32, 255, 256, 4096, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63, 2**64)

CORE = core()
CODES = huffman.ready_codes()
LINES = quantile_table("normal", None).lines


def image_arguments(rng: random.Random) -> list[Any]:
    count, rows, pixels, step = rng.randint(0, 3), rng.randint(1, 40), rng.randint(1, 40), rng.randint(1, 8)
    bound = CORE.png_bound(rows, pixels * step)
    kind = rng.choice([1, 3, 20, 256])
    values = np.random.default_rng(rng.getrandbits(32)).integers(0, kind, (count, rows, pixels * step)).astype(np.uint8)
    out, offsets = np.empty(count * bound, np.uint8), np.empty(count + 1, np.int64)
    return [values, count, rows, pixels * step, step, bytes(33), *CODES, out, offsets]


def unfilter_arguments(rng: random.Random) -> list[Any]:
    rows, pixels, step = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 8)
    filtered = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (rows, 1 + pixels * step)).astype(np.uint8)
    filtered[:, 0] %= 5
    return [filtered, rows, pixels * step, step, np.empty((rows, pixels * step), np.uint8)]


def column(rng: random.Random, samples: int) -> Any:
    kind = rng.choice(["ragged", "rows", "same", "decimal", "varint", "signed", "named"])
    if kind == "ragged":
        sizes = [rng.choice([0, 1, 5, 511, 512, 600]) for _ in range(samples)]
        return (kind, bytes(sum(sizes)), np.cumsum([0, *sizes], dtype=np.int64))
    if kind == "rows":
        width = rng.choice([0, 1, 8, 513])
        return (kind, np.zeros((samples, width), np.uint8), width)
    if kind == "same":
        return (kind, bytes(rng.choice([0, 1, 9, 512])))
    if kind == "named":
        sizes = [rng.choice([0, 1, 5, 600]) for _ in range(rng.randint(1, 4))]
        ids = np.array([rng.randint(-1, len(sizes) - 1) for _ in range(samples)], np.int64)
        return (kind, bytes(sum(sizes)), np.cumsum([0, *sizes], dtype=np.int64), ids)
    numbers = np.array([rng.choice([0, 9, 10, 2**40, 2**63 - 1]) for _ in range(samples)], np.int64)
    return (kind, numbers if kind == "decimal" else -numbers - (kind == "signed"))


def columns(rng: random.Random, samples: int) -> list[Any]:
    return [column(rng, samples) for _ in range(rng.randint(0, 4))]


def tar_arguments(rng: random.Random) -> list[Any]:
    samples = rng.randint(0, 5)
    return [rng.choice([0, 9, 10**12 - 5]), samples, [(bytes(512), one) for one in columns(rng, samples)]]


def mds_arguments(rng: random.Random) -> list[Any]:
    samples = rng.randint(0, 5)
    return [samples, columns(rng, samples), np.empty(samples, np.int64)]


def tfrecord_arguments(rng: random.Random) -> list[Any]:
    samples = rng.randint(0, 5)
    features = [(rng.choice([None, b"", b"name", bytes(200)]), rng.randint(0, 4), one) for one in columns(rng, samples)]
    return [samples, features]


def csv_arguments(rng: random.Random) -> list[Any]:
    samples = rng.randint(0, 5)
    return [samples, columns(rng, samples)]


def latent_arguments(rng: random.Random) -> list[Any]:
    samples, dim = rng.randint(0, 5), rng.choice([1, 7, 8, 100, 2049])
    out = np.empty((samples, dim), np.float32)
    return [rng.getrandbits(64), 0, rng.choice([0, 10**12, 2**52]), samples, dim, LINES, out]


def word_arguments(rng: random.Random) -> list[Any]:
    return [rng.getrandbits(64), 1, rng.getrandbits(64), np.empty(4 * rng.randint(0, 5), np.uint64)]


CALLS: dict[str, Callable[[random.Random], list[Any]]] = {
    "encode_png": image_arguments,
    "png_bound": lambda rng: [rng.choice(NUMBERS), rng.choice(NUMBERS)],
    "unfilter_png": unfilter_arguments,
    "tar_records": tar_arguments,
    "mds_records": mds_arguments,
    "tfrecord_records": tfrecord_arguments,
    "csv_lines": csv_arguments,
    "draw_latents": latent_arguments,
    "philox_words": word_arguments,
    "crc32c": lambda rng: [bytes(rng.randint(0, 100))],
}


def damaged(value: Any, rng: random.Random) -> Any:
    """Return another number, a shorter, strided, read-only or foreign buffer, or another list."""
    if isinstance(value, int):
        return rng.choice([rng.choice(NUMBERS), value + rng.randint(-3, 3), -value, None])
    if isinstance(value, list | tuple):
        items = list(value)
        if items and rng.random() < 0.8:
            at = rng.randrange(len(items))
            items[at] = damaged(items[at], rng)
        else:
            items = items[:-1] if rng.random() < 0.5 else [*items, None]
        return type(value)(items)
    if isinstance(value, np.ndarray):
        return damaged_array(value, rng)
    if isinstance(value, bytes):
        return rng.choice([value[:-1], value + b"x", b"", None, "text", np.frombuffer(value, np.uint8)[::2]])
    return rng.choice([None, 3, b"", "ragged", "rows"])


def damaged_array(value: np.ndarray, rng: random.Random) -> Any:
    flat = value.reshape(-1)
    way = rng.randrange(8)
    if way == 0 and flat.size and value.dtype.kind == "i":
        changed = value.copy()
        changed.reshape(-1)[rng.randrange(flat.size)] = rng.choice([-1, 0, 1, 2**31, 2**62, -(2**63)])
        return changed
    if way == 1:
        fixed = value.copy()
        fixed.flags.writeable = False
        return fixed
    unaligned = np.empty(value.nbytes + 1, np.uint8)[1:]
    foreign = np.full(value.shape, 1e300)
    return [flat[:-1], flat[::2], flat[1:], np.asfortranarray(value), unaligned, foreign, None, b""][way]


def main(calls: int, seed: int) -> None:
    """Make the calls, and print how many of each function succeeded."""
    rng = random.Random(seed)
    succeeded = dict.fromkeys(CALLS, 0)
    for _ in range(calls):
        name = rng.choice(list(CALLS))
        arguments = CALLS[name](rng)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            if arguments:
                at = rng.randrange(len(arguments))
                arguments[at] = damaged(arguments[at], rng)
        if rng.random() < 0.5:
            CORE.set_simd(rng.random() < 0.5)
        try:
            getattr(CORE, name)(*arguments)
            succeeded[name] += 1
        except REFUSED:
            pass
    print(succeeded)
    assert calls < 1000 or all(succeeded.values()), "no valid call was made"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
