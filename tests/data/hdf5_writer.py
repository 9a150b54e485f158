"""Writes small HDF5 files as LIBERO's create_dataset.py and ACT's record_sim_episodes.py do."""

import json

import cv2
import h5py
import numpy as np

HEIGHT, WIDTH = 48, 64


def picture(number, step):
    """(48, 64, 3): darker to the top, by the number of its episode and the step, and no two channels alike."""
    ramp = np.linspace(0, 100, HEIGHT)[:, None, None]
    shade = np.array([10 * number, 100, 5 * step])
    return np.uint8(np.broadcast_to(ramp + shade, (HEIGHT, WIDTH, 3)))


def pictures(number, length):
    return np.stack([picture(number, step) for step in range(length)])


def libero_demo(number, length):
    """The datasets of one demo; pictures begin with their bottom row."""
    rng = np.random.default_rng(number)
    pose = rng.normal(size=(length, 6))
    grip = rng.choice([-1.0, 1.0], (length, 1))
    return {
        "obs/agentview_rgb": pictures(number, length)[:, ::-1],
        "obs/eye_in_hand_rgb": pictures(number, length)[:, ::-1],
        "obs/joint_states": rng.normal(size=(length, 7)),
        "obs/ee_states": pose,
        "obs/ee_pos": pose[:, :3],
        "obs/ee_ori": pose[:, 3:],
        "obs/gripper_states": rng.normal(size=(length, 2)),
        "actions": np.hstack([rng.uniform(-1, 1, (length, 6)), grip]),
        "dones": np.zeros(length, np.uint8),
    }


def write_libero(file, demos, instruction="turn on the stove", masks=None, **attributes):
    """demos: name -> datasets."""
    with h5py.File(file, "w") as handle:
        data = handle.create_group("data")
        data.attrs["problem_info"] = json.dumps({"problem_name": "Kitchen", "language_instruction": instruction})
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs.update(attributes)
        for name, datasets in demos.items():
            group = data.create_group(name)
            group.attrs["num_samples"] = len(datasets["actions"])
            for key, values in datasets.items():
                group.create_dataset(key, data=values)
        for name, listed in (masks or {}).items():
            handle.create_dataset(f"mask/{name}", data=np.array(listed, "S8"))
    return file


def aloha_episode(number, length):
    """The datasets of one episode, without pictures."""
    rng = np.random.default_rng(number)
    return {
        "observations/qpos": rng.uniform(0, 1, (length, 14)).astype(np.float32),
        "observations/qvel": rng.normal(size=(length, 14)).astype(np.float32),
        "action": rng.uniform(0, 1, (length, 14)).astype(np.float32),
    }


def write_aloha(file, number, length, **changes):
    datasets = {**aloha_episode(number, length), "observations/images/top": pictures(number, length), **changes}
    with h5py.File(file, "w") as handle:
        handle.attrs["sim"] = True
        for key, values in datasets.items():
            handle.create_dataset(key, data=values)
    return file


def compressed(number, length):
    """As ALOHA compresses: RGB taken for BGR by OpenCV, padded with zeros to the longest. Also `compress_len`."""
    encoded = [cv2.imencode(".jpg", picture(number, step))[1].ravel() for step in range(length)]
    lengths = [len(one) for one in encoded]
    padded = np.zeros((length, max(lengths) + 7), np.uint8)
    for row, one in zip(padded, encoded, strict=True):
        row[: len(one)] = one
    return padded, np.array([lengths], np.float32)
