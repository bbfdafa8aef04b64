"""Reading what is evaluated: any dataset, image folder, array file or table, as splits of one schema."""

from __future__ import annotations

from dataclasses import dataclass

from gen_engine.engine.errors import DatasetError, RequestError
from gen_engine.evaluate.data.options import DataOptions
from gen_engine.evaluate.data.rows import Rows, Table
from gen_engine.evaluate.data.sources import read_rows
from gen_engine.evaluate.split import Split

__all__ = ["DataOptions", "Sides", "make_sides", "read_sides"]


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What is compared: rows of one schema and one target."""

    synthetic: Split
    train: Split
    test: Split | None

    notes: tuple[str, ...] = ()
    """What the sides share."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The sides that there are."""
        return tuple(one for one in (self.synthetic, self.train, self.test) if one is not None)


def read_sides(synthetic: str | Rows, train: str, test: str | None, options: DataOptions) -> Sides:
    """Read the sides of an evaluation, and make them comparable.

    Args:
        synthetic: a path, a URL or a name; or rows that are in memory, as of a bundle.
        train: what the generator was trained on.
        test: real rows that nothing was trained on, or None.
        options: what the user says about the data.

    Raises:
        DatasetError, DataError, VerifyError: a source is missing, damaged, or nothing that can be evaluated.
        RequestError: the sides differ in a way that no option resolves, or an option fits none.
        BackendUnavailable: a library is not installed.
    """
    rows = [read_rows(synthetic, "synthetic", options) if isinstance(synthetic, str) else synthetic]
    rows.append(read_rows(train, "train", options))
    if test is not None:
        rows.append(read_rows(test, "test", options))
    return make_sides(rows, options)


def make_sides(rows: list[Rows], options: DataOptions) -> Sides:
    """Return rows that were read as comparable sides; raises RequestError like :func:`read_sides`."""
    from gen_engine.evaluate.data import kinds, overlap, pictures

    tables = [one for one in rows if isinstance(one, Table)]
    images = [one for one in rows if isinstance(one, Split)]
    if tables and images:
        raise RequestError(f"{tables[0].source} holds a table and {images[0].source} images: compare like with like")
    for one in rows:
        if not len(one):
            raise DatasetError(f"{one.source} has no rows")
    if images:
        _check_image_options(options)
    splits = kinds.typed(tables, options) if tables else pictures.alike(images, options)
    by_role = {split.role: split for split in splits}
    return Sides(
        synthetic=by_role["synthetic"],
        train=by_role["train"],
        test=by_role.get("test"),
        notes=overlap.shared_notes(splits),
    )


def _check_image_options(options: DataOptions) -> None:
    if options.task == "regress":
        raise RequestError("--task regress: the label of images is a class")
    given = [f"--rename-column {one}" for one in options.rename_columns] + [f"--drop {one}" for one in options.drop]
    if given:
        raise RequestError(f"{given[0]}: images have no columns")
