"""Decision trees that draw one column after the other: `grow` fits them, `codes` draws from them."""
