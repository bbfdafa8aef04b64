"""Images from a folder: files directly in it (no labels), or one subfolder per class, whose name is the class's.

Every file is opened; one that is not a whole image is named, and too many of them stop the run. Legend: N images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.cache import through_cache
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.images import read_images
from gen_engine.train.data.items import Files
from gen_engine.train.data.names import file_name, shown
from gen_engine.train.data.store import OpenStore
from gen_engine.train.data.tree import Tree, list_tree
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions


def read_folder(folder: Path, options: ReadOptions | None = None) -> ImageData:
    """All images under a folder, grey if every file is, else RGB.

    Sizes are kept when all are one square size that models can make; else each image is cropped to its central
    square and resized, to image_size or to 64, and a note counts them. DataError when there are no images,
    when more than max_bad_share of the files cannot be read, when files lie beside class folders, or when the range
    of their values is not clear.
    """
    options = options or ReadOptions()
    tree = list_tree(folder)

    def read(open_store: OpenStore) -> ImageData:
        images = read_images(Files(tree.files), options, folder, open_store)
        labels_N = _labels_of(folder, tree, images.kept)
        counts = _counts(tree, len(images.kept))
        notes = (counts, *images.bad_notes, *tree.notes(), *images.notes)
        return make_image_data(images.images_NSSC, labels_N, tree.class_names, file_name(folder), notes)

    return through_cache(read, tree.files, options)


def _labels_of(folder: Path, tree: Tree, kept: list[int]) -> NDArray[np.int64] | None:
    if tree.classes is None or tree.class_names is None:
        return None
    labels_N = np.array([tree.classes[at] for at in kept], np.int64)
    for number in sorted(set(range(len(tree.class_names))) - set(labels_N.tolist())):
        path = shown(folder / tree.class_names[number])
        raise DataError(f"class folder {path} has no readable image: fill or remove it")
    return labels_N


def _counts(tree: Tree, read: int) -> str:
    seen = len(tree.files) + tree.passed_over.total()
    return f"{seen} files seen, {read} images read, {seen - read} not read"
