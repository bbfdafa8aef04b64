"""Reports of every kind of figure, with names that are hostile."""

from __future__ import annotations

import numpy as np

from gen_engine.evaluate.exhibit import Exhibit, ShownRow
from gen_engine.evaluate.figures import Figure, Interval, Reference, not_computed
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.evaluate.report.report import Report, Side

HOSTILE = (
    "<script>alert('x')</script>",
    '"><img src=x onerror=alert(1)>',
    "right ‮ to left",
    "pipe | and `tick` and [link](http://example.com)",
    "two\nlines\ttab",
    "emoji 🦊 and é",
    "a" * 500,
)


def make_report(names: tuple[str, ...] = HOSTILE) -> Report:
    interval = Interval(low=0.91, high=0.95, method="t, 3 seeds")
    reference = Reference(value=0.96, interval=Interval(low=0.95, high=0.97, method="t"), what=names[0])
    figures = [
        Figure(
            metric="usefulness",
            name="tstr_over_trtr.cnn.accuracy",
            question="useful",
            better="higher",
            value=0.93,
            interval=interval,
            floor=Reference(value=0.1, interval=None, what="majority class"),
            ceiling=reference,
            conditions={"rows": 60_000, "model": names[1], "sure": True, "share": 0.25},
        ),
        Figure(metric="nearest", name="nearest.dcr.median", question="private", better="higher", value=3.0),
        not_computed("frechet", "frechet", "faithful", "lower", f"fewer rows than {names[2]}"),
    ]
    figures += [
        Figure(metric="usefulness", name="tstr.cnn.recall", question="useful", better="higher", value=0.5, group=one)
        for one in names
    ]
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    rows = (
        ShownRow(caption=names[3], image=image),
        ShownRow(caption="train, row 1", values={one: one for one in names}),
        ShownRow(caption="grey", image=image[:, :, :1].copy()),
    )
    sides = tuple(
        Side(
            role=role,
            source=names[at],
            rows=10 + at,
            digest=f"{at}" * 64,
            class_counts=dict.fromkeys(names, 1),
            notes=names,
        )
        for at, role in enumerate(("synthetic", "train", "test"))
    )
    return Report(
        version="1.2.3",
        sides=sides,  # type: ignore[arg-type]
        target=names[4],
        extractor=names[5],
        seed=7,
        budget=Budget(rows=5),
        figures=tuple(figures),
        exhibits=(Exhibit(metric="nearest", title="Closest pairs", note="What there is.", lines=(rows,)),),
        notes=names,
    )
