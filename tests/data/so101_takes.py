"""What `lerobot-record` leaves of an SO-101: an arm that turns to a red square and closes its gripper there."""

import logging
from pathlib import Path

import numpy as np

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
FPS, HEIGHT, WIDTH = 30, 48, 64
REST = np.array([0.0, -100.0, 95.0, 60.0, 0.0, 2.0])
REACH = np.array([0.0, 20.0, -10.0, 40.0, 90.0, 80.0])


def write_takes(root: Path, episodes: int = 24, length: int = 40) -> Path:
    """A LeRobot v3 dataset in LeRobot's units: degrees, the gripper in percent."""
    import av.logging
    import datasets
    from lerobot.configs import RGBEncoderConfig
    from lerobot.datasets import LeRobotDataset

    logging.getLogger("lerobot").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    av.logging.set_libav_level(av.logging.ERROR)
    motors = {"dtype": "float32", "shape": (6,), "names": [f"{name}.pos" for name in JOINTS]}
    picture = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    cameras = ("front", "wrist")
    dataset = LeRobotDataset.create(
        "local/so101",
        FPS,
        {"action": motors, "observation.state": motors} | {f"observation.images.{name}": picture for name in cameras},
        root=root,
        robot_type="so101_follower",
        rgb_encoder=RGBEncoderConfig(vcodec="h264"),
    )
    rng = np.random.default_rng(0)
    for _ in range(episodes):
        pan = rng.uniform(-40, 40)
        goal, start = REACH + pan * np.eye(6)[0], REST + rng.normal(0, 2, 6)
        speed = rng.uniform(0.9, 1.1)
        state = start.copy()
        for step in range(length):
            share = np.clip(speed * step / (length - 8), 0, 1)
            action = start + (goal - start) * (3 * share**2 - 2 * share**3)
            if step > length - 8:
                action[5] = 10
            row = {"action": action, "observation.state": state + rng.normal(0, 0.05, 6)}
            pictures = {f"observation.images.{name}": _draw(name, pan, state, rng) for name in cameras}
            values = {key: value.astype(np.float32) for key, value in row.items()}
            dataset.add_frame({**values, **pictures, "task": "grasp the red square"})
            state = state + 0.35 * (action - state)
        dataset.save_episode()
    dataset.finalize()
    return root


def _draw(camera: str, pan: float, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The square at its place and the arm at its own, seen from the table or from the arm, with a sensor's noise."""
    image = np.full((HEIGHT, WIDTH, 3), 90.0)
    seen_from = state[0] if camera == "wrist" else 0.0
    column, arm = (round(WIDTH / 2 + 0.5 * (angle - seen_from)) for angle in (pan, state[0]))
    row = round(HEIGHT / 2 + 0.15 * state[1])
    image[10:18, max(0, column - 4) : max(0, column + 4)] = (210, 30, 30)
    image[max(0, row) : row + 12, max(0, arm - 2) : max(0, arm + 2)] = (230, 230, 120)
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)
