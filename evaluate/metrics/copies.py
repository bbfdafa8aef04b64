"""Copies: synthetic rows that equal a training row, or lie nearer to one than other real rows do.

Equal rows alone mean nothing where the population repeats itself: what counts is how much oftener training rows are
met than as many held-out ones.

Shape suffixes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.exhibit import Exhibit, show_row
from gen_engine.evaluate.figures import Condition, Figure, Question, Reference, not_computed
from gen_engine.evaluate.metrics import holdout, intervals
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.distances import nearest, prepare

LEAST: Final = 20
_SHOWN: Final = 8
_NEAR: Final = 0.001
"""Share of held-out rows that lie as near to a training row as a near copy does: one in a thousand is usual."""

_DECIDING: Final = 10
"""Fewest held-out rows that decide how near that is: a quantile beyond the tenth row would be decided by chance."""


class Copies:
    """Exact copies, near copies, and repetitions."""

    name = "copies"
    question: Question = "private"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the shares, and show the closest pairs."""
        yield self._duplicates(evaluation)
        if why := holdout.refusal(evaluation, LEAST):
            for kind in ("exact", "any", "near"):
                yield not_computed(self.name, f"copies.{kind}", self.question, "lower", why)
            return
        yield from self._exact(evaluation)
        yield from self._near(evaluation)

    def _exact(self, evaluation: Evaluation) -> Iterator[Figure]:
        """Compare with as many training rows as there are held-out ones; then count copies of any training row.

        The second figure has no ceiling: more training rows than held-out ones are met oftener by chance.
        """
        assert evaluation.test is not None
        synthetic, train, test = (
            holdout.digests(evaluation, split) for split in (evaluation.synthetic, evaluation.train, evaluation.test)
        )
        drawn = holdout.equal_rows(evaluation, max(len(train), len(test)))
        sides = (train[drawn.train_N], test[drawn.test_N])
        found, usual = (int(np.isin(synthetic, one).sum()) for one in sides)
        conditions: dict[str, Condition] = {"real rows": drawn.rows}
        if drawn.rows < LEAST:
            yield not_computed(self.name, "copies.exact", self.question, "lower", _few(drawn.rows))
        else:
            yield self._share("copies.exact", found, usual, len(synthetic), "held-out rows", conditions)
        met = int(np.isin(synthetic, train).sum())
        yield self._share("copies.any", met, None, len(synthetic), "", {"real rows": len(train)})

    def _near(self, evaluation: Evaluation) -> Iterator[Figure]:
        drawn = holdout.equal_rows(evaluation)
        if drawn.rows < LEAST:
            yield not_computed(self.name, "copies.near", self.question, "lower", _few(drawn.rows))
            return
        assert evaluation.test is not None
        rows_N = holdout.synthetic_rows(evaluation, holdout.MOST_ROWS)
        synthetic, train, test = prepare(
            holdout.space(evaluation, evaluation.synthetic, rows_N),
            holdout.space(evaluation, evaluation.train, drawn.train_N),
            holdout.space(evaluation, evaluation.test, drawn.test_N),
        )
        (to_train, train_at), (to_test, test_at) = (nearest(synthetic, one, 1) for one in (train, test))
        usual = nearest(test, train, 1)[0][:, 0]
        share = min(1.0, max(_NEAR, _DECIDING / len(usual)))
        limit = float(np.quantile(usual, share, method="lower"))
        conditions: dict[str, Condition] = {
            "real rows": drawn.rows,
            "near is at most": limit,
            "held-out rows as near": share,
            "distances of": holdout.space_name(evaluation),
        }
        found, other = (int((one[:, 0] <= limit).sum()) for one in (to_train, to_test))
        yield self._share("copies.near", found, other, len(rows_N), "held-out rows", conditions)
        closest = np.argsort(to_train[:, 0], kind="stable")[:_SHOWN]
        pairs = [
            (
                int(rows_N[row]),
                int(drawn.train_N[train_at[row, 0]]),
                float(to_train[row, 0]),
                int(drawn.test_N[test_at[row, 0]]),
                float(to_test[row, 0]),
            )
            for row in closest.tolist()
        ]
        searched = f"{len(rows_N):,} synthetic rows and {drawn.rows:,} real rows of each kind were searched."
        self._show(evaluation, pairs, searched)

    def _duplicates(self, evaluation: Evaluation) -> Figure:
        """Return the share of synthetic rows that an earlier one equals, beside that of as many training rows."""
        count = min(len(evaluation.synthetic), len(evaluation.train))
        rng = evaluation.random("duplicates")
        found, usual = (
            _repeated(holdout.digests(evaluation, split)[rng.permutation(len(split))[:count]])
            for split in (evaluation.synthetic, evaluation.train)
        )
        return self._share("copies.duplicates", found, usual, count, "as many training rows", {})

    def _share(
        self, name: str, found: int, usual: int | None, total: int, what: str, conditions: dict[str, Condition]
    ) -> Figure:
        ceiling = None
        if usual is not None:
            ceiling = Reference(value=usual / total, interval=intervals.of_rare(usual, total), what=what)
        return Figure(
            metric=self.name,
            name=name,
            question=self.question,
            better="lower",
            value=found / total,
            interval=intervals.of_rare(found, total),
            floor=Reference(value=1.0, interval=None, what="every row a copy"),
            ceiling=ceiling,
            conditions=conditions | {"synthetic rows": total},
        )

    def _show(self, evaluation: Evaluation, closest: list[tuple[int, int, float, int, float]], searched: str) -> None:
        assert evaluation.test is not None
        test = evaluation.test
        lines = tuple(
            (
                show_row(evaluation.synthetic, row, f"synthetic, row {row}"),
                show_row(evaluation.train, train_row, f"train, row {train_row}: {apart:.4g} away"),
                show_row(test, test_row, f"held out, row {test_row}: {test_apart:.4g} away"),
            )
            for row, train_row, apart, test_row, test_apart in closest
        )
        evaluation.exhibits.append(
            Exhibit(
                metric=self.name,
                title="The synthetic rows nearest to a training row",
                note="Each beside its nearest training row and its nearest held-out row. A copy is much nearer to "
                "the training row; rows that are about as near to both show what is common in the population. "
                + searched,
                lines=lines,
            )
        )


def _few(rows: int) -> str:
    return f"{rows} rows of each side occur once in the real data: at least {LEAST} are needed"


def _repeated(digests_N: NDArray[np.void]) -> int:
    return len(digests_N) - len(np.unique(digests_N))
