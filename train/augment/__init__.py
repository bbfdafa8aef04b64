"""Augmentation: images, changed as photographs of the same things could differ, by parameters drawn by index.

- `options`: what a user may ask, without torch or NumPy;
- `settle`: every "auto" replaced by a value that suits the data, with the reason;
- `philox`, `parameters`: random numbers and what they decide, by seed and index of the sample alone;
- `transforms`: :func:`~gen_engine.train.augment.transforms.augment_batch`, the images themselves;
- `order`: which image each sample of an augmented dataset is made from.
"""
