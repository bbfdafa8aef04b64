"""Add a variant to a bundle, and die or fail at every point of it: the bundle is then the old one or the new one.

Run by test_crash_variant.py in a process of its own, as crash_driver.py is, with the same points and harms; the
exchange of two directories, which no audit event tells of, is one more point:

    python crash_variant_driver.py BUNDLE WORK HARM
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from crash_driver import FAILED_AS_A_BUG, RAN_THROUGH, Harm, in_child, located
from jobs import tree
from tiny_variant import graph_in, make_variant, with_variant

from gen_engine.engine.base import durable
from gen_engine.engine.errors import EngineError
from gen_engine.engine.identity.bundle import GENERATOR, read_bundle
from gen_engine.engine.identity.variants import add_variant


class HarmWithExchange(Harm):
    """Knows that an exchange lasts once its directory is fsynced."""

    def __init__(self, root: Path, at: int, kind: str) -> None:
        self.exchanged: list[tuple[Path, Path]] = []
        super().__init__(root, at, kind)
        durable._exchange_at_once = self.noted(durable._exchange_at_once)

    def noted(self, exchange: Callable[[Path, Path], bool]) -> Callable[[Path, Path], bool]:
        def wrapped(one: Path, other: Path) -> bool:
            self.point()
            self.exchanged.append((one, other))
            return exchange(one, other)

        self.exchange = exchange
        return wrapped

    def fsynced(self, fsync: Callable[[int], None]) -> Callable[[int], None]:
        inner = super().fsynced(fsync)

        def wrapped(descriptor: int) -> None:
            inner(descriptor)
            self.exchanged = [pair for pair in self.exchanged if pair[1].parent != located(descriptor, None)]

        return wrapped

    def cut_power(self) -> None:
        for one, other in reversed(self.exchanged):
            self.exchange(one, other)
        super().cut_power()


def attempt(path: Path, at: int, kind: str, points: int | None = None) -> int:
    """Add the variant in a child, with harm at point ``at``; write how many points there were to ``points``."""

    def body() -> int:
        bundle = read_bundle(path)
        graph = graph_in(bundle, "fp32")
        harm = HarmWithExchange(path.parent, at, kind)
        try:
            add_variant(bundle, make_variant(bundle), {GENERATOR: graph.onnx, "timing.cache": b"times"})
        except EngineError as error:
            print(f"{type(error).__name__} {error.exit_code}: {error}", file=sys.stderr)
            return error.exit_code
        if points is not None:
            os.write(points, str(harm.points).encode())
        return RAN_THROUGH

    return in_child(body)


def fault(path: Path, old: dict[str, bytes], new: dict[str, bytes]) -> str | None:
    """Say what is wrong with what a run left, or return None."""
    try:
        read_bundle(path)
    except EngineError as error:
        return str(error)
    if tree(path) not in (old, new):
        return "it is neither the old bundle nor the new one"
    if strangers := [entry.name for entry in path.parent.iterdir() if entry != path and entry.name[0] != "."]:
        return f"{strangers} beside it"
    return None


def main(bundle: str, work: str, kind: str) -> None:
    root = Path(work)
    begun, whole = root / "begun" / "tiny.gen", root / "whole" / "tiny.gen"
    shutil.copytree(bundle, begun)
    first = with_variant(read_bundle(begun), speedup=1.5)  # of the same name, so that files go as well as come
    old = tree(first.path)
    shutil.copytree(begun, whole)
    reader, writer = os.pipe()
    assert attempt(whole, 0, "none", writer) == RAN_THROUGH
    points = int(os.read(reader, 20))
    new = tree(whole)
    assert old.keys() != new.keys()
    faults: list[str] = []
    codes: dict[int, int] = {}
    for at in range(1, points + 1):
        path = root / f"{at}" / "tiny.gen"
        shutil.copytree(begun, path)
        code = attempt(path, at, kind)
        codes[code] = codes.get(code, 0) + 1
        wrong = "a bug" if code == FAILED_AS_A_BUG else fault(path, old, new)
        ended = attempt(path, 0, "none")
        if wrong or ended != RAN_THROUGH or tree(path) != new:
            faults.append(f"point {at}: {wrong}; the next run ended with {ended}")
        shutil.rmtree(path.parent)
    print(json.dumps({"points": points, "codes": codes, "faults": faults}))


if __name__ == "__main__":
    main(*sys.argv[1:])
