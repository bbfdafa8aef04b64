"""Networks of tables: draws have the probabilities of the logits, training repeats, no array leads outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from gen_engine.train.errors import ConfigError, TrainingDiverged
from gen_engine.train.tables.classes import Classes, one_class
from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.columns import ColumnSpec
from gen_engine.train.tables.model import Family
from gen_engine.train.tables.networks import vae
from gen_engine.train.tables.networks.codes import NetworkCodes, load_codes
from gen_engine.train.tables.networks.gan import TABLE_GAN, Conditions, Generator, _arrays
from gen_engine.train.tables.networks.layout import first_of, groups_of, is_padding
from gen_engine.train.tables.networks.train import Rows
from gen_engine.train.tables.networks.vae import TABLE_VAE
from gen_engine.train.tables.options import TableGanOptions, TableVaeOptions

SIZES = [4, 2, 100, 1, 70]
FAMILIES = [TABLE_VAE, TABLE_GAN]


def coded(count: int = 600, classes: int = 2) -> Coded:
    """Columns of which the second is whether the first is large, and the class too, mostly."""
    rng = np.random.default_rng(3)
    first_N = rng.integers(0, 4, count)
    label_N = np.where(rng.random(count) < 0.9, first_N // 2, rng.integers(0, 2, count)) * (classes > 1)
    columns = [first_N, first_N // 2, rng.integers(0, 100, count), np.zeros(count), rng.integers(0, 70, count)]
    specs = tuple(
        ColumnSpec(name=f"c{place}", kind="integer", dtype="int64", group="exact", codes=size, nullable=False)
        for place, size in enumerate(SIZES)
    )
    rows = tuple(np.flatnonzero(label_N == place) for place in range(2))
    return Coded(
        specs=specs,
        codings=(),
        codes_ND=np.stack(columns, 1).astype(np.int32),
        order=tuple(range(len(SIZES))),
        classes=one_class(count) if classes == 1 else Classes(names=("a", "b"), rows_Y=rows),
    )


def fitted(family: Family, data: Coded, **options: object) -> NetworkCodes:
    given = {"epochs": 2, "batch": 100, "hidden": 32, "latent_dim": 8} | options
    codes, _ = family.fit(data, family.options(data="t.csv", **given), lambda step, figures: None)
    assert isinstance(codes, NetworkCodes)
    return codes


def drawn(codes: NetworkCodes, count: int, label: int = 0):
    u_ZB = np.random.default_rng(5).random((codes.latents, count), np.float32)
    return codes.draw(u_ZB, np.full(count, label))


@given(st.lists(st.integers(1, 256), min_size=1, max_size=40))
def test_every_column_has_a_place_in_a_group_that_it_fills(sizes: list[int]) -> None:
    groups = groups_of(sizes)
    assert sorted(column for group in groups for column in group.columns) == list(range(len(sizes)))
    for group in groups:
        assert all(0.7 * group.width <= sizes[column] <= group.width for column in group.columns)
    padding_P, first_D = is_padding(groups, sizes), first_of(groups, len(sizes))
    for first, size in zip(first_D.tolist(), sizes, strict=True):
        assert not padding_P[first : first + size].any()
    assert (~padding_P).sum() == sum(sizes)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_codes_are_drawn_with_the_softmax_of_the_logits(family: Family, classes: int) -> None:
    codes = fitted(family, coded(classes=classes))
    u_ZB = np.tile(np.random.default_rng(1).random((codes.latents, 1), np.float32), (1, 40_000))
    u_ZB[-len(SIZES) :] = np.random.default_rng(2).random((len(SIZES), 40_000), np.float32)
    made_DB = codes.draw(u_ZB, np.zeros(40_000, np.int64))
    a, z_L = codes.arrays, np.log(u_ZB[: codes.size, 0]) - np.log(1 - u_ZB[: codes.size, 0])
    chosen = codes._conditions(u_ZB[codes.size : codes.size + 2, :1], np.zeros(1, int))[0]
    z_L = z_L * a["condition_scale_CL"][chosen] if "condition_scale_CL" in a else z_L
    value = a["latents_HL"] @ z_L + a["class_YH"][0] + a["condition_CH"][chosen]
    for weight, bias in codes.layers:
        value = weight @ np.maximum(value, 0) + bias
    for first, size, made_B in zip(first_of(codes.groups, len(SIZES)), SIZES, made_DB, strict=True):
        expected_K = torch.from_numpy(value[first : first + size]).double().softmax(0).numpy() * 40_000
        seen_K = np.bincount(made_B, minlength=size)
        common = expected_K > 5
        statistic = ((seen_K - expected_K)[common] ** 2 / expected_K[common]).sum()
        assert statistic < chi2.ppf(1 - 1e-4, max(common.sum() - 1, 1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", [0.0, 1.0, 1.0 - 2.0**-24])
def test_the_ends_of_the_uniforms_draw_codes_that_there_are(family: Family, end: float) -> None:
    codes = fitted(family, coded())
    made_DB = codes.draw(np.full((codes.latents, 2), end, np.float32), np.array([0, 1]))
    assert (made_DB >= 0).all()
    assert (made_DB.max(axis=1) < SIZES).all()


@pytest.mark.parametrize(("family", "options"), [(TABLE_VAE, {}), (TABLE_GAN, {"pack": 1})])
def test_dependences_are_learnt(family: Family, options: dict[str, int]) -> None:
    codes = fitted(family, coded(1000), epochs=150, hidden=64, lr=2e-3, **options)
    first_B, large_B, *_ = drawn(codes, 4000)
    assert np.mean(large_B == first_B // 2) > 0.85
    assert np.mean(first_B // 2 == 0) > 0.8
    assert np.mean(drawn(codes, 4000, label=1)[0] // 2 == 1) > 0.8


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_makes_the_same_arrays(family: Family) -> None:
    one, other = (fitted(family, coded(), seed=4).arrays for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(one["latents_HL"], fitted(family, coded(), seed=5).arrays["latents_HL"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 5])
def test_a_batch_larger_than_the_table_is_the_table(family: Family, count: int) -> None:
    codes = fitted(family, coded(count, classes=1), batch=500)
    assert (drawn(codes, 100).max(axis=1) < SIZES).all()


def test_folded_norms_compute_what_the_generator_does() -> None:
    rows = Rows(coded(), "cpu", 0)
    torch.manual_seed(0)
    generator = Generator(rows, TableGanOptions(data="t", hidden=32, latent_dim=8))
    place_N = torch.randint(0, rows.values, (300,))
    for _ in range(5):
        generator(torch.randn(300, 8) * 2 + 1, torch.randint(0, 2, (300,)), place_N)
    arrays = _arrays(generator.eval(), Conditions(rows))
    z_NL, class_N = torch.randn(50, 8), torch.randint(0, 2, (50,))
    wanted = generator(z_NL, class_N, place_N[:50]).detach().numpy()
    value = z_NL.numpy() @ arrays["latents_HL"].T + arrays["class_YH"][class_N] + arrays["condition_CH"][place_N[:50]]
    for place in (1, 2):
        value = np.maximum(value, 0) @ arrays[f"weight{place}"].T + arrays[f"bias{place}"]
    assert np.allclose(value, wanted, atol=2e-3, rtol=1e-4)


def test_a_condition_is_a_code_of_the_row_that_is_drawn() -> None:
    rows = Rows(coded(), "cpu", 0)
    conditions = Conditions(rows)
    place_N, column_N, row_N = conditions.draw(5000)
    assert torch.equal(rows.places_ND[row_N, column_N], place_N)
    assert set(column_N.tolist()) == set(range(len(SIZES)))
    assert len(set(row_N.tolist())) > 500


def test_a_loss_that_is_not_finite_ends_training(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = vae._losses
    monkeypatch.setattr(vae, "_losses", lambda *given: (honest(*given)[0] * float("nan"), honest(*given)[1]))
    with pytest.raises(TrainingDiverged, match="the reconstruction of epoch 1 is nan: train with a smaller --lr"):
        fitted(TABLE_VAE, coded())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"hidden": 10_000}, "hidden is 10000: it must be 1 to 8,192"),
        ({"latent_dim": 0}, "latent-dim is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"beta": 0.0}, "beta is 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TableVaeOptions(data="t.csv", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pack is 0"):
        TableGanOptions(data="t.csv", pack=0)


CODES = {family.options.__name__: fitted(family, coded(100)) for family in FAMILIES}


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_arrays_are_refused_or_draw_codes_that_there_are(data: st.DataObject) -> None:
    codes = CODES[data.draw(st.sampled_from(sorted(CODES)))]
    name = data.draw(st.sampled_from(sorted(codes.arrays)))
    array = codes.arrays[name].copy()
    kind = data.draw(st.sampled_from(["value", "shorter", "gone", "dtype"]))
    arrays = {**codes.arrays, name: array}
    if kind == "value":
        place = data.draw(st.integers(0, array.size - 1))
        numbers = st.floats(width=32) if array.dtype == np.float32 else st.integers(-(2**31), 2**31 - 1)
        array.ravel()[place] = data.draw(numbers)
    elif kind == "shorter":
        arrays[name] = array[:-1]
    elif kind == "gone":
        del arrays[name]
    else:
        arrays[name] = array.astype(np.float64)
    try:
        loaded = load_codes(arrays, SIZES, 2)
    except ValueError:
        return
    made = np.concatenate([drawn(loaded, 200, label) for label in (0, 1)], axis=1)
    assert (made >= 0).all()
    assert (made.max(axis=1) < SIZES).all()
