"""What a user may ask of a model of tables: every option with its one default. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.constraints.grammar import Constraint, parse

COLUMN_TYPES = ("float", "integer", "boolean", "category", "date", "datetime", "decimal", "drop")
"""What a column may be declared as."""


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What training of any family takes on a table."""

    data: str
    """A .csv, .parquet, .arrow, .feather or .npz file, or a directory of them."""

    model: str
    """Model family."""

    target: str | None = None
    """Column whose values become the classes of the rows, as --labels of 'gen-engine sample' chooses them: categories,
    booleans or integers (tables)."""

    max_rows: int = 1_000_000
    """Rows that are kept in memory and fitted to, drawn at random from tables with more (tables)."""

    types: Mapping[str, str] = field(default_factory=dict)
    """Column → one of COLUMN_TYPES, in place of the inferred type."""

    keep: tuple[str, ...] = ()
    """Columns that are kept though they look like personal data."""

    constraints: tuple[str, ...] = ()
    """What holds in every row, such as ``start <= end``: see `gen_engine.train.tables.constraints.grammar`."""

    seed: int = 0
    """Draws the rows that are fitted to, those held out, and what a fit begins with."""

    threads: int | None = None
    """CPU threads, 1 to 1024; by default torch's own choice."""

    max_data_size: int = 2 * 2**30
    """Most bytes that the rows may take in memory; fewer rows are kept of wider tables."""

    def __post_init__(self) -> None:
        for name, kind in self.types.items():
            if kind not in COLUMN_TYPES:
                choices = ", ".join(COLUMN_TYPES)
                raise ConfigError(f"column {name!r} is declared as {kind!r}: it must be one of {choices}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}: it must be 0 to 2^63 - 1")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ConfigError(f"threads is {self.threads}: it must be 1 to 1024")
        if self.max_data_size < 1:
            raise ConfigError(f"max-data-size is {self.max_data_size}: it must be at least 1")
        if not 1 <= self.max_rows <= 100_000_000:
            raise ConfigError(f"max-rows is {self.max_rows}: it must be 1 to 100,000,000")
        for text in self.constraints:
            parse(text)  # what is no constraint is refused before the table is read

    @cached_property
    def parsed(self) -> tuple[Constraint, ...]:
        """The constraints as types."""
        return tuple(one for text in self.constraints for one in parse(text))


@dataclass(frozen=True, kw_only=True)
class MixtureOptions(TableOptions):
    """The family `mixture`."""

    model: str = "mixture"
    """Model family."""

    components: int | None = None
    """Components of the mixture, 1 to 10,000, shared by the classes in proportion to the square roots of their rows; by
    default 0.8 times that root for each (mixture)."""

    em_steps: int = 40
    """Most steps of expectation-maximisation; fewer once held-out rows gain nothing more (mixture)."""

    smoothing: float = 1.0
    """Rows of the class's own column frequencies that are added to each component, more than 0 (mixture)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components is not None and not 1 <= self.components <= 10_000:
            raise ConfigError(f"components is {self.components}: it must be 1 to 10,000")
        if not 1 <= self.em_steps <= 10_000:
            raise ConfigError(f"em-steps is {self.em_steps}: it must be 1 to 10,000")
        if not 0.0 < self.smoothing <= 1e6:
            raise ConfigError(f"smoothing is {self.smoothing}: it must be more than 0 and at most 1,000,000")


@dataclass(frozen=True, kw_only=True)
class TreesOptions(TableOptions):
    """The family `trees`."""

    model: str = "trees"
    """Model family."""

    min_leaf: int = 20
    """Rows that each leaf has at least, 1 to 1,000,000: no distribution is that of fewer (trees)."""

    max_depth: int = 20
    """Most comparisons that lead to a leaf, 1 to 30: sampling takes time in proportion (trees)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.min_leaf <= 1_000_000:
            raise ConfigError(f"min-leaf is {self.min_leaf}: it must be 1 to 1,000,000")
        if not 1 <= self.max_depth <= 30:
            raise ConfigError(f"max-depth is {self.max_depth}: it must be 1 to 30")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(TableOptions):
    """What networks of tables share; their flags are those of networks of images."""

    epochs: int = 300
    """Passes over the rows."""

    batch: int = 500
    """Rows per step; all rows where there are fewer."""

    lr: float = 1e-3
    """Learning rate of Adam."""

    latent_dim: int = 64
    """Latents of a row, besides the uniforms that draw its codes."""

    hidden: int = 128
    """Values of a hidden layer."""

    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("epochs", 100_000), ("batch", 1_000_000), ("latent_dim", 4096), ("hidden", 8192)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ConfigError(f"{name.replace('_', '-')} is {value}: it must be 1 to {most:,}")
        if not 0.0 < self.lr <= 1.0:
            raise ConfigError(f"lr is {self.lr}: it must be more than 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class TableVaeOptions(NetworkOptions):
    """The family `table-vae`."""

    model: str = "table-vae"
    """Model family."""

    beta: float = 0.5
    """Weight of the divergence from the prior, more than 0: half of the reconstruction's, as in TVAE."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.beta <= 1000.0:
            raise ConfigError(f"beta is {self.beta}: it must be more than 0 and at most 1,000")


@dataclass(frozen=True, kw_only=True)
class TableGanOptions(NetworkOptions):
    """The family `table-gan`."""

    model: str = "table-gan"
    """Model family."""

    lr: float = 2e-4
    """Learning rate of Adam."""

    latent_dim: int = 128
    """Latents of a row, besides the uniforms that draw its codes."""

    hidden: int = 256
    """Values of a hidden layer."""

    gradient_penalty: float = 10.0
    """Weight of the penalty on the critic's gradient, more than 0."""

    pack: int = 1
    """Rows that the critic judges together, 1 to 1,000; CTGAN's 10 learn more slowly (table-gan)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.pack <= 1000:
            raise ConfigError(f"pack is {self.pack}: it must be 1 to 1,000")
        if not 0.0 < self.gradient_penalty <= 1e6:
            raise ConfigError(f"gradient-penalty is {self.gradient_penalty}: it must be more than 0")


OPTIONS: Mapping[str, type[TableOptions]] = {
    "trees": TreesOptions,
    "mixture": MixtureOptions,
    "table-vae": TableVaeOptions,
    "table-gan": TableGanOptions,
}
"""The options of the families that come with the package, by name; others take `TableOptions`."""
