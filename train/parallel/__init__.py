"""One run trained by several processes: each takes its rows of every batch, and all end each step with equal weights.

The numbers are those of one process, but for the order of sums: order, latents and every other draw are made for the
whole batch by every process, which then keeps its own rows; gradients, losses and the statistics of batch normalisation
are means over all. So a run continues at another number of processes. See docs/decisions/0021.
"""
