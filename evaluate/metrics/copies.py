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

from gen_engine.evaluate.data.overlap import row_digests
from gen_engine.evaluate.exhibit import Exhibit, show_row
from gen_engine.evaluate.figures import Condition, Figure, Question, Reference, not_computed
from gen_engine.evaluate.metrics import holdout, intervals
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.distances import nearest, prepare

LEAST: Final = 20
_SHOWN: Final = 8
_NEAR: Final = 0.01
"""Share of held-out rows that lie as near to a training row as a near copy does: one such row in a hundred is usual."""


class Copies:
    """Exact copies, near copies, and repetitions."""

    name = "copies"
    question: Question = "private"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the shares, and show the closest pairs."""
        yield self._duplicates(evaluation)
        if why := holdout.refusal(evaluation, LEAST):
            for kind in ("exact", "near"):
                yield not_computed(self.name, f"copies.{kind}", self.question, "lower", why)
            return
        yield self._exact(evaluation)
        yield from self._near(evaluation)

    def _exact(self, evaluation: Evaluation) -> Figure:
        """Compare with as many training rows as there are held-out ones, all of which count here."""
        assert evaluation.test is not None
        synthetic, train, test = (
            evaluation.once(f"digests of {split.role}", lambda split=split: row_digests(split))  # type: ignore[misc]
            for split in (evaluation.synthetic, evaluation.train, evaluation.test)
        )
        count = min(len(train), len(test))
        rng = evaluation.random("copies")
        found, usual = (int(np.isin(synthetic, one[rng.permutation(len(one))[:count]]).sum()) for one in (train, test))
        return self._share("copies.exact", found, usual, len(synthetic), "held-out rows", {"real rows": count})

    def _near(self, evaluation: Evaluation) -> Iterator[Figure]:
        drawn = holdout.equal_rows(evaluation)
        if drawn.rows < LEAST:
            why = f"{drawn.rows} held-out rows are not also training rows: at least {LEAST} are needed"
            yield not_computed(self.name, "copies.near", self.question, "lower", why)
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
        limit = float(np.quantile(usual, _NEAR, method="lower"))
        conditions: dict[str, Condition] = {
            "real rows": drawn.rows,
            "near is at most": limit,
            "distances of": holdout.space_name(evaluation),
        }
        found, other = (int((one[:, 0] <= limit).sum()) for one in (to_train, to_test))
        yield self._share("copies.near", found, other, len(rows_N), "held-out rows", conditions)
        closest = np.argsort(to_train[:, 0], kind="stable")[:_SHOWN]
        self._show(
            evaluation,
            [
                (
                    int(rows_N[row]),
                    int(drawn.train_N[train_at[row, 0]]),
                    float(to_train[row, 0]),
                    int(drawn.test_N[test_at[row, 0]]),
                    float(to_test[row, 0]),
                )
                for row in closest.tolist()
            ],
        )

    def _duplicates(self, evaluation: Evaluation) -> Figure:
        """Return the share of synthetic rows that an earlier one equals, beside that of as many training rows."""
        count = min(len(evaluation.synthetic), len(evaluation.train))
        found, usual = (
            _repeated(evaluation.once(f"digests of {split.role}", lambda split=split: row_digests(split))[:count])  # type: ignore[misc]
            for split in (evaluation.synthetic, evaluation.train)
        )
        return self._share("copies.duplicates", found, usual, count, "as many training rows", {})

    def _share(
        self, name: str, found: int, usual: int, total: int, what: str, conditions: dict[str, Condition]
    ) -> Figure:
        return Figure(
            metric=self.name,
            name=name,
            question=self.question,
            better="lower",
            value=found / total,
            interval=intervals.of_rare(found, total),
            floor=Reference(value=1.0, interval=None, what="every row a copy"),
            ceiling=Reference(value=usual / total, interval=intervals.of_rare(usual, total), what=what),
            conditions=conditions | {"synthetic rows": total},
        )

    def _show(self, evaluation: Evaluation, closest: list[tuple[int, int, float, int, float]]) -> None:
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
                "the training row; rows that are about as near to both show what is common in the population.",
                lines=lines,
            )
        )


def _repeated(digests_N: NDArray[np.void]) -> int:
    return len(digests_N) - len(np.unique(digests_N))
