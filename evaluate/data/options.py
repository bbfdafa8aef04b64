"""How the data of an evaluation is read and made comparable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gen_engine.engine.errors import RequestError
from gen_engine.train.options import ReadOptions

Task: TypeAlias = Literal["classify", "regress"]
Match: TypeAlias = Literal["name", "id"]

LARGEST_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class ImageOptions(ReadOptions):
    """How image files are read: as training reads them, at any size."""

    def sizes(self) -> Collection[int]:
        """Return every size: no model has to make them."""
        return range(1, LARGEST_SIDE + 1)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What the user says about the data; every default is inferred, or refused with the flag that states it."""

    target: str | None = None
    """The field that models predict; by default the label of images, and none of a table."""

    task: Task | None = None
    """Whether the target is a class or a number; by default by its type."""

    resize: int | None = None
    """Height and width that the images of every side are resized to, in pixels."""

    channels: Literal["grey", "rgb"] | None = None
    """Channels that the images of every side are converted to."""

    match_classes: Match = "name"
    """Whether equal classes have equal names, or equal ids."""

    rename_classes: Mapping[str, str] = field(default_factory=dict)
    """Class name of the synthetic data → the real one."""

    rename_columns: Mapping[str, str] = field(default_factory=dict)
    """Column name of the synthetic data → the real one."""

    drop: tuple[str, ...] = ()
    """Columns that are left out on every side."""

    value_range: str | None = None
    """LOW..HIGH, the values of image arrays that become black and white; by default inferred."""

    rows: int = 100_000
    """Most rows of the synthetic data that are read; more are drawn at random."""

    memory: int = 2 * 2**30
    """Most bytes of one side in memory."""

    seed: int = 0
    """Which rows are drawn."""

    def __post_init__(self) -> None:
        if self.resize is not None and not 1 <= self.resize <= LARGEST_SIDE:
            raise RequestError(f"--resize {self.resize}: the side is 1 to {LARGEST_SIDE} pixels")
        if self.rows < 2:
            raise RequestError(f"--rows {self.rows}: at least 2 rows are compared")
        if self.task is not None and self.target is None:
            raise RequestError(f"--task {self.task} needs --target, the field to predict")

    def images(self) -> ImageOptions:
        """Return how image files and arrays are read."""
        return ImageOptions(image_size=self.resize, value_range=self.value_range, max_data_size=self.memory)
