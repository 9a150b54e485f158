"""A whole session in a real browser: driving by keys, recording, correcting the policy, stopping, leaving."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from cockpit_rig import rig

from vla import assets
from vla.data.publish import publish, recorded_takes

playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_S = 300
SCREENSHOTS = os.environ.get("COCKPIT_SCREENSHOTS")
"""A folder, to look at the page as it was."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as api:
        made = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


class Operator:
    """Someone at the keyboard."""

    def __init__(self, made, page) -> None:
        self.rig, self.page = made, page
        page.set_default_timeout(1000 * PATIENCE_S)
        page.goto(made.cockpit.url)
        self.reads("The arm holds")

    def reads(self, text: str) -> None:
        self.page.wait_for_function("text => document.querySelector('#clutch').textContent === text", arg=text)

    def takes(self, count: int) -> None:
        self.page.wait_for_function("n => document.querySelectorAll('#takes li').length === n", arg=count)

    def until(self, condition, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition(self.rig.session.moment()):
            assert time.monotonic() < deadline, f"{what}: {self.rig.session.moment().notes}"
            self.page.wait_for_timeout(20)

    def take_hold(self) -> None:
        self.page.keyboard.press("Space")
        self.reads("You drive")

    def drive(self, key: str = "a", axis: int = 1) -> None:
        here = self.rig.session.moment().tool
        self.page.keyboard.down(key)
        self.until(lambda now: abs(now.tool[axis] - here[axis]) > 0.01, "the arm moves")
        self.page.keyboard.up(key)

    def begin(self) -> None:
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("body[data-tape=on]")

    def end(self, key: str) -> None:
        """End the take by key, and wait until the next scene is there."""
        seed = self.rig.session.moment().seed
        self.page.keyboard.press(key)
        self.page.wait_for_selector("body[data-tape=off]")
        self.until(lambda now: now.seed != seed, "the next scene comes")
        self.reads("The arm holds")

    def rests(self) -> None:
        self.until(lambda now: now.at_rest, "the arm rests")

    def shoot(self, name: str) -> None:
        if SCREENSHOTS:
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def shipped_policy():
    from vla.tandem import TandemPolicy

    return TandemPolicy.from_pretrained(assets.find("policy", "tabletop"))


def test_a_session_by_keys_leaves_exactly_the_takes_that_were_kept(browser, tmp_path):
    out = tmp_path / "data"
    with rig(out, heartbeat_s=10, policy=shipped_policy(), render=True, large=bool(SCREENSHOTS)) as made:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        operator = Operator(made, page)
        for key, kept in (("y", 1), ("n", 2), ("x", 2), ("y", 3)):
            operator.take_hold()
            operator.begin()
            operator.drive()
            operator.end(key)
            operator.takes(kept)
        page.keyboard.press("z")
        operator.takes(2)

        operator.begin()
        page.keyboard.press("p")
        operator.reads("The policy drives")
        operator.until(lambda now: now.pilot.words, "S2 speaks")
        operator.shoot("policy")
        page.keyboard.press("Space")
        operator.reads("You correct")
        operator.drive("d")
        page.keyboard.press("Space")
        operator.reads("The policy drives")
        operator.end("y")
        operator.takes(3)
        operator.shoot("desktop")

        operator.take_hold()
        page.keyboard.down("a")
        operator.until(lambda now: not now.at_rest, "the arm moves")
        page.keyboard.press("Escape")
        operator.reads("Stopped: emergency stop")
        operator.rests()
        page.keyboard.up("a")
        page.keyboard.press("Home")
        operator.reads("The arm holds")

        operator.take_hold()
        page.keyboard.down("a")
        operator.until(lambda now: not now.at_rest, "the arm moves")
        trips = made.session.moment().trips
        page.close()
        deadline = time.monotonic() + PATIENCE_S
        while not (made.session.moment().trips > trips and made.session.moment().at_rest):
            assert time.monotonic() < deadline, "the tab is closed and the arm moves"
            time.sleep(0.02)
        assert not errors
        spec = about_spec()
    assert publish(out, spec) == 3
    takes = recorded_takes(out)
    assert [take["success"] for take in takes] == [True, False, True]
    assert [take["interventions"] > 0 for take in takes] == [False, False, True]
    check_dataset(out, takes)


def about_spec():
    from vla.spec import RobotSpec

    return RobotSpec.load(assets.find("robot", "tabletop"))


def check_dataset(out: Path, takes: list[dict]) -> None:
    from lerobot.datasets import LeRobotDataset

    dataset = LeRobotDataset("local/cockpit", root=out)
    assert [row["length"] for row in dataset.meta.episodes] == [take["frames"] for take in takes]
    drivers = dataset.hf_dataset["driver"]
    for take, row in zip(takes, dataset.meta.episodes, strict=True):
        start, stop = row["dataset_from_index"], row["dataset_to_index"]
        assert row["tasks"] == [take["task"]]
        assert bool(dataset[stop - 1]["next.success"]) == take["success"]
        assert ("policy" in drivers[start:stop]) == (take["interventions"] > 0)
        moved = np.array(dataset.hf_dataset["observation.state"][start:stop])[:, 8]
        assert np.ptp(moved) > 0.005, "the arm moved in it"
    assert {dataset[0]["operator"], dataset[0]["device"]} == {"operator", "web"}


def test_a_phone_sees_everything_within_its_width_and_can_drive_by_touch(browser, tmp_path):
    with rig(tmp_path / "data", heartbeat_s=10, render=True, large=bool(SCREENSHOTS)) as made:
        context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        operator = Operator(made, context.new_page())
        page = operator.page
        page.wait_for_selector("figure img")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.tap("#hold")
        operator.reads("You drive")
        here = made.session.moment().tool
        page.locator("[data-move='1+']").dispatch_event("pointerdown", {"pointerId": 1})
        operator.until(lambda now: abs(now.tool[1] - here[1]) > 0.01, "the arm moves")
        operator.shoot("phone")
        page.locator("[data-move='1+']").dispatch_event("pointerup", {"pointerId": 1})
        page.tap("#hold")
        operator.reads("The arm holds")
        operator.rests()
        page.tap("#stop")
        operator.reads("Stopped: emergency stop")
        context.close()


@pytest.mark.parametrize("way", ["another character", "no word"])
def test_a_key_that_is_let_go_moves_nothing_however_it_is_said(browser, tmp_path, way):
    with rig(tmp_path / "data", heartbeat_s=60) as made:
        operator = Operator(made, browser.new_page())
        operator.take_hold()
        operator.page.keyboard.down("a")
        operator.until(lambda now: not now.at_rest, "the arm moves")
        if way == "another character":  # as with AltGr or Option held
            operator.page.evaluate("dispatchEvent(new KeyboardEvent('keyup', { key: 'å', code: 'KeyA' }))")
        else:  # as macOS does it for keys that are let go beside Cmd
            operator.page.keyboard.down("Meta")
        operator.until(lambda now: now.engaged and not made.device._newest.move.any(), "the hand rests and has hold")
        operator.page.close()


def test_a_hidden_tab_stops_the_arm(browser, tmp_path):
    with rig(tmp_path / "data", heartbeat_s=60) as made:
        operator = Operator(made, browser.new_page())
        operator.take_hold()
        operator.page.keyboard.down("a")
        operator.until(lambda now: not now.at_rest, "the arm moves")
        operator.page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        operator.until(lambda now: now.at_rest and now.trips > 0, "the arm rests")
        assert not made.session.moment().engaged
        operator.page.close()


def test_a_second_tab_watches_and_may_only_stop_the_arm(browser, tmp_path):
    with rig(tmp_path / "data", heartbeat_s=60, render=True, large=bool(SCREENSHOTS)) as made:
        operator = Operator(made, browser.new_page())
        watcher = Operator(made, browser.new_page())
        page = watcher.page
        page.wait_for_selector("body[data-role=watcher]")
        assert page.locator("button:visible").evaluate_all("all => all.map(one => one.id)") == ["stop"]
        operator.page.bring_to_front()
        operator.take_hold()
        operator.page.keyboard.down("a")
        watcher.reads("The operator drives")
        page.wait_for_selector("figure img")
        watcher.shoot("watcher")
        page.bring_to_front()
        for key in ("Space", "Enter", "d"):
            page.keyboard.press(key)
        assert made.session.moment().engaged and not made.recorder.status().recording
        page.wait_for_selector("#notes >> text=Only the operator may do that")
        page.keyboard.press("Escape")
        operator.reads("Stopped: emergency stop")
        watcher.rests()
        assert page.locator("#release").is_hidden()
        operator.page.close()
        page.wait_for_selector("#release:enabled")
        page.click("#release")
        watcher.reads("The arm holds")
        page.close()


GAMEPAD = """
const buttons = () => Array.from({ length: 17 }, () => ({ pressed: false }));
window.pad = { index: 0, mapping: "standard", axes: [0, 0, 0, 0], buttons: buttons() };
window.pedals = { index: 1, mapping: "", axes: [0, 0, -1, 1], buttons: buttons() };
pedals.buttons[1].pressed = true;
navigator.getGamepads = () => [null, window.pad, window.pedals];
"""


def test_a_gamepad_in_the_browser_takes_hold_moves_and_lets_go(browser, tmp_path):
    with rig(tmp_path / "data", heartbeat_s=10) as made:
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_init_script(GAMEPAD)
        operator = Operator(made, page)

        def press(button: int, down: bool) -> None:
            page.evaluate("([button, down]) => { pad.buttons[button].pressed = down; }", [button, down])

        press(5, True)
        operator.reads("You drive")
        press(5, False)
        here = made.session.moment().tool
        page.evaluate("pad.axes[0] = -1")
        operator.until(lambda now: now.tool[1] > here[1] + 0.01, "the stick moves the arm")
        assert abs(made.session.moment().tool[2] - here[2]) < 0.005, "pedals are no gamepad"
        press(0, True)
        operator.until(lambda now: now.gripper < 0.5, "the gripper closes")
        press(5, True)
        operator.reads("The arm holds")
        operator.rests()
        assert not errors
        page.close()
