"""Dataset cards: every shipped one is whole; mistakes are named by their path."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from vla import assets
from vla.data.card import Card, CardCamera, CardField
from vla.errors import UserError
from vla.spec import RobotSpec

NAMES = assets.names("card")


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_card_is_whole(name):
    card = Card.load(name)
    assert card.name == name
    assert card.source.url and card.source.features and card.source.licence
    spec = card.spec({camera.name: camera.size for camera in card.cameras})
    assert spec.camera_names and spec.state_size and spec.action_size
    assert card.verified or "guessed" in card.source.features, "an unverified card says what it is a guess after"


def test_the_cards_whose_features_were_looked_up():
    verified = {name for name in NAMES if Card.load(name).verified}
    bucket = {"fractal20220817_data", "droid", "language_table", "bc_z", "taco_play", "jaco_play"}
    assert verified == bucket | {"berkeley_autolab_ur5", "bridge_dataset", "bridge_orig", "libero", "aloha_sim"}


def test_what_the_card_of_aloha_brings_in_is_of_the_robot_that_is_simulated():
    imported = Card.load("aloha_sim").spec({"front": (480, 640)})
    imported.check_robot(RobotSpec.load(assets.find("robot", "aloha")))


def test_the_folder_of_cards_is_no_package():
    assert not list((Path(__file__).parents[2] / "datasets").rglob("__init__.py"))


@pytest.fixture
def bridge(tmp_path):
    """The Bridge card as a mapping, and a way to load a changed one."""
    card = yaml.safe_load(assets.find("card", "bridge_dataset").read_text())

    def load():
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(card))
        return Card.load(file)

    return card, load


def test_a_card_becomes_a_robot_spec(bridge):
    card, load = bridge
    card["cameras"] = card["cameras"][:1]
    spec = load().spec({"front": (64, 48)})
    assert (spec.name, spec.rate_hz, spec.action.mode) == ("widowx_250", 5, "ee_delta")
    assert (spec.cameras[0].height, spec.cameras[0].width) == (64, 48)
    assert [field.name for field in spec.state] == ["ee_position", "ee_rotation", "gripper"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.pop("verified"), "card mine: verified is missing"),
        (lambda card: card.update(colour="red"), "card mine: unknown key colour"),
        (lambda card: card["state"][0].update(unit="mm"), r"card mine: state\[0\].unit must be one of"),
        (lambda card: card["state"][0].update(keys=[]), r"card mine: state\[0\].keys is empty"),
        (lambda card: card["state"][1].update(size=4), r"state\[1\].size is 4, a rpy rotation has 3"),
        (lambda card: card["state"][0].update(do=["twist"]), r"ee_position.do\[0\] is no operation: 'twist'"),
        (lambda card: card["action"].pop("gripper"), "gripper and a field named gripper go together"),
        (lambda card: card["cameras"][1].update(name="front"), "cameras names front more than once"),
        (lambda card: card.update(rate_hz=3.75), "rate_hz must be a whole number"),
        (lambda card: card["source"].pop("licence"), "source.licence is missing"),
        (lambda card: card["cameras"][0].update(flip="left"), r"cameras\[0\].flip must be one of 'vertical'"),
        (lambda card: card["action"].update(shift=-1), "action.shift is -1; it must not be negative"),
    ],
)
def test_mistakes_are_named_by_their_path(bridge, change, message):
    card, load = bridge
    change(card)
    with pytest.raises(UserError, match=message):
        load()


def test_an_unknown_card_lists_what_there_is():
    with pytest.raises(UserError, match=r"unknown card 'brigde_dataset'.*did you mean bridge_dataset\?"):
        Card.load("brigde_dataset")


def test_values_without_operations_keep_every_bit():
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    field = CardField("ee_position", 3, "m", ("x",))
    assert field.apply({"x": values}).tobytes() == values.tobytes()


def test_keys_are_laid_side_by_side_and_truth_values_are_numbers():
    field = CardField("both", 3, "1", ("a", "b"))
    joined = field.apply({"a": np.array([True, False]), "b": np.array([[1, 2], [3, 4]])})
    assert joined.tolist() == [[1, 1, 2], [0, 3, 4]] and joined.dtype == np.float32


def test_a_size_the_operations_do_not_give_is_refused():
    with pytest.raises(ValueError, match="comes out with 2 entries, the card says 3"):
        CardField("x", 3, "m", ("x",)).apply({"x": np.zeros((4, 2))})


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, [[1, 2], [3, 4]]),
        ({"flip": "vertical"}, [[3, 4], [1, 2]]),
        ({"flip": "rotate_180"}, [[4, 3], [2, 1]]),
    ],
)
def test_a_camera_puts_stored_pictures_upright(stored, expected):
    picture = np.array([[1, 2], [3, 4]], np.uint8)[..., None] * np.array([1, 10, 20], np.uint8)
    upright = CardCamera("front", "picture", **stored).upright(picture)
    assert upright[..., 0].tolist() == expected
    assert np.array_equal(CardCamera("front", "picture", colour="bgr", **stored).upright(picture), upright[..., ::-1])
