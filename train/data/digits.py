"""The handwritten digits that scikit-learn carries (Alpaydin & Kaynak 1998): 1,797 images, 8×8 grey, 10 classes.

Legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np

from gen_engine.engine.errors import BackendUnavailable
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.resize import resized


def read_digits(image_size: int | None = None) -> ImageData:
    """The digits resized to 28×28, or to the size requested, with a note about it.

    BackendUnavailable saying what to install when scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BackendUnavailable("data 'digits' needs scikit-learn: pip install 'gen-engine[train]'") from error
    bunch = load_digits()
    eight_NHWC = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    images_NHWC, notes = resized(eight_NHWC, image_size or 28)
    names = tuple(str(name) for name in bunch.target_names)
    return make_image_data(images_NHWC, bunch.target.astype(np.int64), names, "digits", notes)
