"""Sample a table with as many rows of its rare class as of the other, and read it as a data frame would."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow.compute as pc
from pyarrow import dataset

from gen_engine.engine import write_dataset

CENSUS = Path(__file__).parent / "census" / "census.gen"
COUNT = 50_000


def main(out: Path) -> None:
    """Write a table to ``out / "people"`` and sum it up."""
    # In the census 6 of 100 people have an income above 50,000; here half of the rows do.
    write_dataset(CENSUS, out / "people", count=COUNT, labels="balanced", format="parquet")

    people = dataset.dataset(out / "people" / "data", format="parquet").to_table()
    for field in people.schema:
        print(f"{field.name}: {field.type}")

    by_income = people.group_by("income").aggregate(
        [("age", "mean"), ("weeks worked in year", "mean"), ([], "count_all")]
    )
    for row in by_income.to_pylist():
        print(
            f"{row['income']:>8}: {row['count_all']} rows, mean age {row['age_mean']:.1f}, "
            f"{row['weeks worked in year_mean']:.1f} weeks worked"
        )
    rich = people.filter(pc.equal(people["income"].cast("string"), "50000+"))
    education = rich["education"].cast("string").value_counts().to_pylist()
    most = max(education, key=lambda one: one["counts"])
    print(f"their most frequent education: {most['values']}, {most['counts']} of {len(rich)} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write; a temporary directory by default")
    given = parser.parse_args().out
    if given is None:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
    else:
        main(given)
