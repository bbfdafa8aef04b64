"""The inputs of sample i: the bundle, its variants, the latents and the labels."""
