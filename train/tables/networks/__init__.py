"""Networks that make the probabilities of all columns' codes: `vae` and `gan` train them, `codes` draws from them."""
