"""The card of an augmented dataset: which images it was made from, and how they were changed."""

from __future__ import annotations

from gen_engine.engine.base.text import markdown
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.run.card import derived_readme
from gen_engine.engine.writers.contract import Format
from gen_engine.train.augment.options import Augmentation
from gen_engine.train.data.image_data import ImageData


def augment_card(plan: Plan, form: Format, data: ImageData, augmentation: Augmentation, balance: str) -> str:
    """Return the dataset card."""
    origin = (
        f"Every sample in this dataset is an image of {markdown(data.name)}, with its label if it has one, changed at "
        "random by gen-engine. These are not synthetic data: they show what the images show and are as confidential "
        "as they are. Split the images before they are changed, not the samples: versions of one image would be on "
        "both sides. `dataset.json` and `shards.jsonl` list every file with its digest."
    )
    images = {"Name": data.name, "Images": f"{len(data.images_NHWC):,}", "SHA-256 of pixels and labels": data.digest}
    changes = {"balance": balance, **augmentation.recorded()}
    return derived_readme(
        plan,
        form,
        title=f"{plan.count:,} augmented images of {data.name}",
        tag="augmented",
        origin=origin,
        tables={
            "The images": images,
            "How they were changed": {name.replace("_", " "): str(value) for name, value in changes.items()},
        },
    )
