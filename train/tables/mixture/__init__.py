"""Mixtures of products: `em` fits them, `codes` draws from them."""
