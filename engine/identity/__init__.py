"""What sample i is made from: the bundle, its variants, the latents and the labels."""
