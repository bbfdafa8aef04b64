"""Top up a long-tailed data set with generated samples of its rare classes."""

from __future__ import annotations

import numpy as np

from gen_engine.engine import Generator


def main() -> None:
    """Print how many samples each class has before and after."""
    rng = np.random.default_rng(0)
    counts = (1000 * 0.6 ** np.arange(10)).astype(int)  # 1000, 600, 360, … 10
    real = [rng.integers(0, 256, (count, 28, 28, 1), np.uint8) for count in counts]  # stands for your images

    with Generator.open() as generator:
        assert generator.classes is not None
        for class_id, (name, images_NHWC) in enumerate(zip(generator.classes, real, strict=True)):
            missing = max(counts) - len(images_NHWC)
            generated = generator.sample(0, missing, labels=str(class_id), seed=class_id)
            balanced = np.concatenate([images_NHWC, generated])
            print(f"{name:12} {len(images_NHWC):5} real + {missing:5} generated = {len(balanced):5}")


if __name__ == "__main__":
    main()
