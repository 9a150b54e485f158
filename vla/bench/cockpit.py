"""What the page costs the control loop, how old what it shows is, and how long a key takes to become a command: over
loopback, in a real Chromium.

The page itself says when a picture is drawn and when a key went down, on its own clock, which it keeps beside ours by
its heartbeat's round trips; the arm notes when it was commanded.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla.bench.bench_arm import BenchArm, Cameras
from vla.bench.regularity import regularity
from vla.data.live import LiveRecorder, LiveSettings
from vla.errors import UserError
from vla.serve.background import beside
from vla.spec import RobotSpec
from vla.teleop.bodies import PRIORITY
from vla.teleop.cockpit import Cockpit, WebDevice
from vla.teleop.command import about_robot
from vla.teleop.control import SessionSettings
from vla.teleop.pictures import CameraPictures
from vla.teleop.session import Session

PATIENCE_MS = 120_000
HELD_MS, REST_MS = 150, 650
"""A key is down so long, and then up so long that the arm rests again and its next command is a new one."""
MOVED = 1e-6
"""A command (rad) that differs by more from the one before is one to move."""
NOTED = """() => {
  window.noted = { ages: [], downs: [], replaced: 0 };
  const open = new WeakSet(); // pictures that are not drawn yet
  new MutationObserver((changes) => changes.forEach(({ target }) => {
    noted.replaced += open.has(target);
    open.add(target);
  })).observe($("#cameras"), { subtree: true, attributeFilter: ["src"] });
  document.addEventListener("load", (event) => {
    if (event.target.tagName !== "IMG" || !event.target.closest("#cameras")) return;
    open.delete(event.target);
    setTimeout(() => {
      const age = link.age, at = performance.now();
      requestAnimationFrame(() => { if (age !== null) noted.ages.push(age + performance.now() - at); });
    });
  }, true);
  addEventListener("keydown", (event) => {
    if ("ad".includes(event.key) && !event.repeat) noted.downs.push(event.timeStamp / 1000 + link.offset);
  }, true);
}"""


def measure_page(spec: RobotSpec, out: Path, seconds: float) -> dict[str, tuple[float, str]]:
    """Name -> value and unit, over so many seconds of watching, driving by keys and recording.

    Raises UserError with what to install if there is no browser to do it in.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        chromium = None
    if chromium is None:
        raise UserError("the page is not measured: pip install playwright; apt install chromium")
    presses = max(1, round(1000 * seconds / (HELD_MS + REST_MS)))
    device, pictures = WebDevice(), CameraPictures()
    with Cameras(spec) as cameras, LiveRecorder(out, spec, LiveSettings(preroll_s=0, reserve=0)) as recorder:
        arm = BenchArm(spec, cameras)
        settings = SessionSettings(heartbeat_s=PATIENCE_MS / 1000, priority=PRIORITY)
        session = Session(lambda: arm, device, recorder, None, settings, pictures.offer)
        session.start()
        try:
            session.ask("instruct", "sway")
            cockpit = Cockpit(session, recorder, device, pictures, about={**about_robot(spec), "has_policy": False})
            with beside(cockpit.serve), sync_playwright() as api:
                browser = api.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                page.set_default_timeout(PATIENCE_MS)
                page.goto(cockpit.url)
                page.wait_for_function("() => link.age !== null && state.role === 'operator'")
                page.keyboard.press("Enter")
                page.keyboard.press("Space")
                page.wait_for_function("() => state.engaged && state.recorder.recording")
                page.wait_for_timeout(REST_MS)
                page.evaluate(NOTED)
                first = len(arm.sent)
                for press in range(presses):
                    key = "ad"[press % 2]  # to and fro: never to a limit, where nothing would move
                    page.keyboard.down(key)
                    page.wait_for_timeout(HELD_MS)
                    page.keyboard.up(key)
                    page.wait_for_timeout(REST_MS)
                last = len(arm.sent)
                noted = page.evaluate("() => window.noted")
                browser.close()
        finally:
            session.close()
    sent = np.array(arm.sent)
    shown, driven = np.array(noted["ages"]), key_to_command(np.array(noted["downs"]), sent, arm.commands)
    if not len(shown) or not len(driven):
        raise UserError("the page is not measured: it drew no picture or moved no arm; give more time")
    delays = {
        f"{name} p{share}": (float(np.percentile(values, share)), "ms")
        for name, values in (("camera to page", shown), ("key to command", 1e3 * driven))
        for share in (50, 95, 99)
    }
    pace = regularity(sent[first:last], spec.rate_hz)
    return {
        "period error p99, page open": (pace["period error p99", "ms"], "ms"),
        **delays,
        "pictures never drawn": (100 * noted["replaced"] / (noted["replaced"] + len(shown)), "%"),
        "keys without answer": (presses - len(driven), "keys"),
    }


def key_to_command(
    downs: NDArray[np.float64], sent: NDArray[np.float64], commands: list[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Seconds from each key press to the first command after it that moves the arm, of those that were followed by one
    before the next press. downs, sent: seconds on one clock; commands: (A,) each.
    """
    changed = np.abs(np.diff(np.array(commands), axis=0)).max(1) > MOVED
    moves = sent[1:][changed]
    following = np.searchsorted(moves, downs)
    until = np.append(downs[1:], np.inf)
    first = np.append(moves, np.inf)[following]
    return np.asarray((first - downs)[first < until])
