"""Training: image data in, a checkpoint with a generator out.

Data readers (`gen_engine.train.data`), model families (`gen_engine.train.models`), losses, the training loop and the
checkpoint format. The export stage needs `gen_engine.train.runs.checkpoint.load_generator` and nothing else from here.
"""
