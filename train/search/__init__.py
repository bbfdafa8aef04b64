"""Search: the settings of a recipe that train the best generator, by a figure on rows held out of training.

`gen_engine.train.search.run.run_search` runs trials, each a run directory of `gen_engine.train.train`;
`gen_engine.train.search.space` is what a recipe's table `[search]` says. Optuna is imported when a search begins.
"""
