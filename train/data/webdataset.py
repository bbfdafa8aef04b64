"""Images and labels from WebDataset tars. Legend: N images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.train.data.array_image import ImageArray, of_bytes
from gen_engine.train.data.cache import through_cache
from gen_engine.train.data.class_ids import class_ids
from gen_engine.train.data.deidentify import Dropped
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.image_file import ImageBytes
from gen_engine.train.data.images import read_images
from gen_engine.train.data.items import Items
from gen_engine.train.data.names import file_name, shown
from gen_engine.train.data.sources import choose_files
from gen_engine.train.data.store import OpenStore
from gen_engine.train.data.tars import Member, Sample, samples
from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.options import ReadOptions

IMAGE_SUFFIXES: Final = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm", "npy")
"""Extensions of members that are images; npy is an array of one image."""

LABELS: Final = ("label", "labels", "class", "cls", "target")
"""Columns, extensions and keys that hold labels, in order of preference."""

_LARGEST_LABEL: Final = 1 << 12
_LARGEST_JSON: Final = 1 << 20


class Members(Items):
    """The images of tars, read from their places."""

    noun = "samples"

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def name(self, at: int) -> str:
        """The tar and the member."""
        return str(self._members[at])

    def load(self, at: int) -> ImageBytes | ImageArray:
        """The member's bytes, or the array they hold."""
        member = self._members[at]
        return of_bytes(member.name, member.read())


def read_webdataset(source: str, options: ReadOptions | None = None) -> ImageData:
    """The images of .tar files, with the class that .cls, .txt or .json state.

    Args:
        source: a tar, a folder of them, or a name with ranges such as x-{000..099}.tar.
        options: size, range and limits, and what holds images and labels.

    Raises:
        DataError: a tar is damaged, a sample has several images, or only some have a label; also as of a folder.
        ConfigError: what is to hold the labels is to be dropped.
    """
    options = options or ReadOptions()
    files, notes = choose_files(source, ".tar")

    def read(open_store: OpenStore) -> ImageData:
        found = _index(source, files, options)
        images = read_images(Members(found.images), options, source, open_store)
        labels, names = None, None
        if found.labelled:
            labels, names = class_ids(found.labels, images.kept, None, shown(source), found.labelled)
        of_label = "none with a label" if labels is None else f"all with a label from {found.labelled}"
        counted = f"{len(found.images)} samples with an image in {len(files)} tars, {len(images.kept)} read, {of_label}"
        all_notes = (counted, *notes, *found.notes(), *images.bad_notes, *images.notes)
        return make_image_data(images.images_NSSC, labels, names, file_name(Path(source)), all_notes)

    return through_cache(read, files, options)


@dataclass
class _Index:
    """What tars hold, before an image is decoded."""

    dropped: Dropped
    images: list[Member] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    """One per image, None where there is none."""

    labelled: str = ""
    """What holds the labels, for messages; "" if nothing does."""

    passed_over: dict[str, int] = field(default_factory=dict)
    others: dict[str, None] = field(default_factory=dict)
    """Extensions and keys that were not read."""

    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        counted = tuple(f"{count} {reason}" for reason, count in self.passed_over.items())
        return (*counted, *self.dropped.notes(self.others))


def _index(source: str, files: Sequence[Path], options: ReadOptions) -> _Index:
    """Find the image of every sample, and read its label."""
    found = _Index(Dropped(options.drop_columns))
    check_not_dropped(found.dropped, options)
    for path in files:
        for sample in samples(path, found.passed_over):
            image = _image_of(sample, options.image_column)
            if image is None:
                reason = "samples without an image were left out"
                found.passed_over[reason] = found.passed_over.get(reason, 0) + 1
                continue
            label, holder = _label_of(sample, found, options.label_column)
            found.images.append(sample[image])
            found.labels.append(label)
            found.labelled = found.labelled or holder
            left = (one for one in sample if one not in (image, holder.strip(".")) and not found.dropped(one))
            found.others.update(dict.fromkeys(f".{one}" for one in left if one != "json" or holder == f".{one}"))
    if not found.images:
        wanted = options.image_column or ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"{shown(source)} holds no sample with an image: none has a member ending in {wanted}")
    if options.label_column is not None and not found.labelled:
        has = ", ".join(found.others) or "nothing else"
        raise DataError(
            f"{shown(source)}: no sample has a label in {options.label_column!r}; beside images they have {has}"
        )
    return found


def _image_of(sample: Sample, wanted: str | None) -> str | None:
    """The extension of a sample's image; DataError when there are several."""
    if wanted is not None:
        return wanted.lower().lstrip(".") if wanted.lower().lstrip(".") in sample else None
    found = [one for one in sample if one.rpartition(".")[2] in IMAGE_SUFFIXES]
    plain = [one for one in found if one in IMAGE_SUFFIXES]
    if len(plain or found) > 1:
        listed = ", ".join(f".{one}" for one in found)
        raise DataError(
            f"{sample[found[0]]} is one of several images of its sample ({listed}): choose with --image-column"
        )
    return next(iter(plain or found), None)


def _label_of(sample: Sample, found: _Index, wanted: str | None) -> tuple[Any, str]:
    """A sample's label and what holds it, ".cls" or "key 'label' of .json"; None and "" if it has none."""
    for name in LABELS if wanted is None else (wanted.lower().lstrip("."),):
        if name in sample:
            return _text_of(sample[name]), f".{name}"
    if "json" not in sample:
        return None, ""
    document = _json_of(sample["json"])
    kept = {key: value for key, value in document.items() if not found.dropped(key)}
    key = next((one for one in (LABELS if wanted is None else (wanted,)) if one in kept), None)
    found.others.update(dict.fromkeys(f"{one} of .json" for one in kept if one != key))
    if key is None:
        return None, ""
    value = kept[key]
    if value is not None and not isinstance(value, int | str):
        raise DataError(f"{sample['json']}: {key} is no label: labels are whole numbers or text")
    return value, f"key {key!r} of .json"


def _text_of(member: Member) -> str:
    try:
        return member.read(_LARGEST_LABEL).decode().strip()
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(
            f"{member} is no label ({error}): write a whole number or the name of a class, UTF-8"
        ) from error


def _json_of(member: Member) -> dict[str, Any]:
    try:
        document = parse_json(member.read(_LARGEST_JSON))
    except (DataError, DocumentError) as error:
        raise DataError(f"{member} cannot be read ({error})") from error
    return document if isinstance(document, dict) else {}


def check_not_dropped(dropped: Dropped, options: ReadOptions) -> None:
    """ConfigError when a column is named to be read, and by a pattern to be dropped."""
    for flag, name in (("image-column", options.image_column), ("label-column", options.label_column)):
        if name is not None and (pattern := dropped.pattern_of(name)):
            raise ConfigError(
                f"{flag} is {name!r}, which {pattern!r} in --drop-columns drops: take that out of it, as in "
                f"--drop-columns {','.join(one for one in dropped.patterns if one != pattern)!r}"
            )
