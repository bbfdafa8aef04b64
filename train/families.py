"""The names of the model families. Without torch, which `--help` does not need."""

from __future__ import annotations

from gen_engine.engine.base.registry import Registry
from gen_engine.train.errors import ConfigError

MODELS = Registry(
    "gen_engine.models",
    "model",
    ConfigError,
    {
        "mlp-gan": "gen_engine.train.models.mlp_gan:MLP_GAN",
        "dcgan": "gen_engine.train.models.dcgan:DCGAN",
        "residual": "gen_engine.train.models.residual:RESIDUAL",
        "style": "gen_engine.train.models.style:STYLE",
        "mlp-vae": "gen_engine.train.models.vae:MLP_VAE",
        "conv-vae": "gen_engine.train.models.vae:CONV_VAE",
        "res-vae": "gen_engine.train.models.res_vae:RES_VAE",
        "vae-gan": "gen_engine.train.models.res_vae:VAE_GAN",
    },
)
"""What `--model` accepts; a package adds one by an entry point in the group `gen_engine.models`."""

TABLE_MODELS = Registry(
    "gen_engine.table_models",
    "model of tables",
    ConfigError,
    {
        "trees": "gen_engine.train.tables.trees.grow:TREES",
        "mixture": "gen_engine.train.tables.mixture.fit:MIXTURE",
        "table-vae": "gen_engine.train.tables.networks.vae:TABLE_VAE",
        "table-gan": "gen_engine.train.tables.networks.gan:TABLE_GAN",
    },
)
"""What `--model` accepts for tables; a package adds a `gen_engine.train.tables.model.Family` by an entry point in the
group `gen_engine.table_models`."""
