"""The card of an adversarial set: what was attacked and how, and the classifier's accuracy before and after."""

from __future__ import annotations

from gen_engine.engine.base.text import markdown
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.run.card import derived_readme
from gen_engine.engine.writers.contract import Format
from gen_engine.evaluate.attack.classifier import Classifier
from gen_engine.evaluate.attack.measure import Tally
from gen_engine.evaluate.attack.settings import TOP, AttackSettings
from gen_engine.evaluate.figures import Interval

_PAPERS = {
    "fgsm": "Goodfellow et al., Explaining and harnessing adversarial examples, ICLR 2015",
    "pgd": "Mądry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018",
}


def attack_card(plan: Plan, form: Format, classifier: Classifier, settings: AttackSettings, tally: Tally) -> str:
    """Return the dataset card."""
    assert plan.derived is not None, "it was made from another dataset"
    whose = plan.bundle_name or f"dataset {plan.derived.dataset[:12]}"
    what = "one" if plan.generator_id is None else "a synthetic one"
    origin = (
        f"Every sample in this dataset is {what} of another dataset, with its original label, and its pixels "
        f"changed so that the classifier {markdown(classifier.name)} errs: {markdown(str(settings))}. It measures how "
        "robust a classifier is; it does not represent real data. `dataset.json` and `shards.jsonl` list every file "
        "with its digest."
    )
    attack = {
        "Original samples": f"dataset {plan.derived.dataset}",
        "Classifier": classifier.name,
        "SHA-256 of the classifier": classifier.sha256,
        "Its input": str(classifier.scaling),
        "Attack": str(settings),
        "Method": _PAPERS[settings.method],
    }
    effect = {
        "Accuracy on the original samples": _share(*tally.before),
        "Accuracy on these samples": _share(*tally.after),
        "Largest change of a value": f"{tally.largest_change} of {TOP}",
        "Samples without a change": f"{tally.unchanged:,}",
    }
    return derived_readme(
        plan,
        form,
        title=f"{plan.count:,} adversarial samples against {classifier.name}, from {whose}",
        tag="adversarial",
        origin=origin,
        tables={"The attack": attack, "Its effect": effect},
    )


def _share(value: float, interval: Interval) -> str:
    return f"{value:.4f}, 95 % interval {interval.low:.4f} to {interval.high:.4f}"
