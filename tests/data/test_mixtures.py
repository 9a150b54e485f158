"""Mixture files, shipped and own."""

import pytest

from vla import assets
from vla.data.mixture import Mixture
from vla.errors import UserError

WITHOUT_CARD = {"nyu_door_opening_surprising_effectiveness"}


def test_shipped_mixtures_name_datasets_that_have_cards():
    assert len(assets.names("mixture")) == 5
    for name in assets.names("mixture"):
        mixture = Mixture.load(name)
        assert mixture.name == name and "github.com" in mixture.source
        assert {part.dataset for part in mixture.datasets} - WITHOUT_CARD <= set(assets.names("card"))


def test_published_weights_multiply_the_number_of_frames():
    mixture = Mixture.load("openvla_magic_soup_plus").only(["bridge_orig", "droid"])
    assert mixture.weights({"bridge_orig": 2_000_000, "droid": 27_000_000}) == [2_000_000, 0.06 * 27_000_000]


def test_weights_may_be_the_proportions_of_draws(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nsource: own\nper: draws\ndatasets: [{dataset: a, weight: 3.0}, {dataset: b, weight: 1.0}]"
    )
    assert Mixture.load(file).weights({"a": 10, "b": 10_000}) == [3, 1]


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ("[]", "datasets is empty"),
        ("[{dataset: a, weight: 0}]", "weight of a is 0.0, it must be above 0"),
        ("[{dataset: a, weight: .nan}]", "weight of a is nan"),
        ("[{dataset: a, weight: 1}, {dataset: a, weight: 2}]", "a more than once"),
        ("[{dataset: a, wieght: 1}]", "did you mean weight"),
    ],
)
def test_mistakes_in_a_mixture_are_named(tmp_path, datasets, message):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\nsource: own\nper: frames\ndatasets: {datasets}")
    with pytest.raises(UserError, match=message):
        Mixture.load(file)


def test_datasets_that_are_not_there_are_named(tmp_path):
    (tmp_path / "bridge_orig").mkdir()
    mixture = Mixture.load("openvla_magic_soup_plus").only(["bridge_orig", "kuka", "droid"])
    with pytest.raises(UserError, match="lacks kuka, droid"):
        mixture.folders(tmp_path)
    with pytest.raises(UserError, match="has no dataset 'door'"):
        mixture.only(["door"])


def test_a_dataset_that_is_asked_for_twice_is_in_it_once():
    parts = Mixture.load("openvla_magic_soup_plus").only(["droid", "kuka", "droid"]).datasets
    assert [part.dataset for part in parts] == ["droid", "kuka"]
