"""The policy server, over real sockets on this machine: what it answers, whom it refuses, what it survives."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from vla import assets
from vla.cli import main
from vla.errors import UserError
from vla.policies import load_here
from vla.robots.gym_sim import make_robot
from vla.runtime.loop import ControlLoop, Timing
from vla.serve.background import beside
from vla.serve.client import RemotePolicy
from vla.serve.codec import pack, unpack
from vla.serve.server import PolicyServer
from vla.tandem import TandemPolicy

SIDE = 96
OBSERVATION = {
    "observation.images.front": np.zeros((SIDE, SIDE, 3), np.uint8),
    "observation.images.wrist": np.zeros((SIDE, SIDE, 3), np.uint8),
    "observation.state": np.zeros(17, np.float32),
    "prompt": "lift the red cube",
}
THINK = {
    "type": "think", "images": {"front": np.zeros((SIDE, SIDE, 3), np.uint8)}, "instruction": "lift the red cube",
    "stamp": 1.5, "instruction_id": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    return TandemPolicy.from_pretrained(assets.find("policy", "tabletop"))


def serving(policy, **options):
    return beside(PolicyServer(policy, **options).serve)


@pytest.fixture(scope="module")
def url(policy):
    with serving(policy) as url:
        yield url


def ask(connection, message):
    connection.send(message if isinstance(message, (bytes, str)) else pack(message))
    answer = connection.recv(60)
    return answer if isinstance(answer, str) else unpack(answer)


def test_a_client_of_openpi_gets_metadata_first_and_then_a_chunk_for_every_observation(url, policy):
    with connect(url, compression=None, max_size=None) as connection:
        metadata = unpack(connection.recv(60))
        assert metadata["action_size"] == 7 and metadata["spec"]["name"] == policy.spec.name
        slashes = {key.replace(".", "/"): value for key, value in OBSERVATION.items()}
        for observation in (OBSERVATION, slashes):
            answer = ask(connection, observation)
            assert answer["actions"].shape == (16, 7) and answer["actions"].dtype == np.float32
            assert answer["server_timing"]["infer_ms"] >= answer["policy_timing"]["s1_ms"] > 0
        assert ask(connection, {"__ctrl__": "episode_start", "__task__": ""}) == {"__ack__": "episode_start"}


def test_images_of_another_size_are_fine(url):
    large = {key: np.zeros((224, 224, 3), np.uint8) if "images" in key else v for key, v in OBSERVATION.items()}
    with connect(url, compression=None) as connection:
        connection.recv(60)
        assert ask(connection, large)["actions"].shape == (16, 7)


def test_a_remote_policy_plays_the_very_episode_that_the_policy_itself_plays(url, policy):
    def play(which):
        with make_robot("tabletop", "lift") as robot:
            robot.reset(100_000)
            sent = []
            loop = ControlLoop(which, robot, Timing(s2_delay=0.2), on_step=lambda view: sent.append(view.action))
            loop.run(robot.instruction, 24, lambda: robot.finished)
        return np.array(sent)

    with RemotePolicy(url) as remote:
        assert remote.spec == policy.spec
        np.testing.assert_allclose(play(remote), play(policy), atol=1e-6)


def test_thoughts_come_with_their_stamp_the_instruction_they_answer_and_words_if_asked(url):
    with RemotePolicy(url) as remote:
        images = {"front": np.zeros((SIDE, SIDE, 3), np.uint8)}
        thought = remote.think(images, "lift the red cube", 2.5, 7, words=True)
        assert (thought.stamp, thought.instruction_id, thought.latents.shape) == (2.5, 7, (8, 192))
        assert thought.text and thought.age(3.0) == pytest.approx(0.5)


def wrong(message, **changes):
    return {key: value for key, value in (message | changes).items() if value is not ...}


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ([1, 2], "a request is a map"),
        (b"\xc1", "not a msgpack message"),
        ("hello", "binary msgpack"),
        ({"type": "dance"}, "type is 'dance'"),
        (wrong(OBSERVATION, prompt=...), "task must be a text"),
        (wrong(OBSERVATION, prompt="x" * 2000), "1 to 1000 characters"),
        (wrong(OBSERVATION, **{"observation.images.wrist": ...}), "observation.images.wrist must be uint8"),
        (wrong(OBSERVATION, **{"observation.images.front": np.zeros((9, 9, 3))}), "front must be uint8"),
        (wrong(OBSERVATION, **{"observation.images.front": np.zeros((0, 9, 3), np.uint8)}), "front is 0 x 9"),
        (wrong(OBSERVATION, **{"observation.state": np.zeros(3)}), r"state must be an array of \(17,\)"),
        (wrong(OBSERVATION, **{"observation.state": np.full(17, np.nan)}), "not finite"),
        (wrong(OBSERVATION, **{"observation.state": np.full(17, 1e300)}), "not finite in 32 bits"),
        (wrong(THINK, stamp=float("inf")), "stamp must be a finite number"),
        (wrong(THINK, instruction_id="first"), "instruction_id must be a whole number"),
        ({"type": "act", "images": {}, "now": 0.0}, "images.front must be"),
        (
            {"type": "act", "images": {c: OBSERVATION[f"observation.images.{c}"] for c in ("front", "wrist")},
             "state": np.zeros(17), "now": 0.0, "thought": {"latents": np.zeros((2, 2))}},
            r"thought.latents must be an array of \(8, 192\)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_answered_with_a_line_and_the_connection_goes_on(url, message, answer):
    with connect(url, compression=None) as connection:
        connection.recv(60)
        said = ask(connection, message)
        assert isinstance(said, str) and "\n" not in said
        assert re.search(answer, said), said
        assert ask(connection, {"__ctrl__": "episode_end"}) == {"__ack__": "episode_end"}


def test_a_thousand_malformed_messages_later_it_still_serves(policy):
    rng = np.random.default_rng(0)
    whole = pack(OBSERVATION)
    with serving(policy, max_bytes=200_000) as url:
        connection = connect(url, compression=None)
        connection.recv(60)
        for number in range(1000):
            kind = number % 4
            if kind == 0:
                message = rng.bytes(int(rng.integers(1, 200)))
            elif kind == 1:
                message = whole[: int(rng.integers(1, len(whole)))]
            elif kind == 2:
                flipped = bytearray(whole[:400])
                flipped[int(rng.integers(len(flipped)))] ^= 1 << int(rng.integers(8))
                message = bytes(flipped)
            else:
                message = pack({"type": "act", "now": number})
            if number % 100 == 99:  # too long: the connection ends, the server does not
                connection.send(bytes(200_001))
                with pytest.raises(Exception, match="1009"):
                    connection.recv(60)
                connection = connect(url, compression=None)
                connection.recv(60)
                continue
            ask(connection, message)
        assert ask(connection, OBSERVATION)["actions"].shape == (16, 7)
        connection.close()


def test_no_key_no_service(policy):
    with serving(policy, api_key="open sesame") as url:
        for key in (None, "open sesam", "open sesame!"):
            with pytest.raises(UserError, match="another API key"):
                RemotePolicy(url, key)
        with RemotePolicy(url, "open sesame") as remote:
            assert remote.config.replan_steps == 4
        with urllib.request.urlopen(url.replace("ws:", "http:") + "/healthz") as answer:
            assert (answer.status, answer.read()) == (200, b"ok\n")


def test_a_web_page_is_not_served(url):
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, origin="http://localhost:3000")


def test_a_proxy_for_the_web_is_not_asked(url, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with RemotePolicy(url) as remote:
        assert remote.metadata["action_size"] == 7


def test_several_clients_are_served_at_once(url):
    with RemotePolicy(url) as one, RemotePolicy(url) as two:
        images = {"front": np.zeros((SIDE, SIDE, 3), np.uint8)}
        thoughts = [remote.think(images, "lift the red cube", 0.0).latents for remote in (one, two, one)]
        assert np.array_equal(thoughts[0], thoughts[1]) and np.array_equal(thoughts[1], thoughts[2])


def test_what_a_client_that_left_had_waiting_is_not_computed(untrained):
    policy = load_here(str(untrained))
    asked, think, going = [], policy.think, threading.Event()

    def counted(images, instruction, stamp, *rest):
        asked.append(stamp)
        going.wait(300)
        return think(images, instruction, stamp, *rest)

    policy.think = counted
    with serving(policy) as url:
        for number in range(20):
            with connect(url, compression=None) as leaving:
                leaving.recv(60)
                leaving.send(pack(THINK | {"stamp": float(number)}))
                if number == 0:
                    while not asked:
                        time.sleep(0.01)
                # Gone in the middle of it, as if its cable were cut.
                leaving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                leaving.socket.shutdown(socket.SHUT_RDWR)
        with connect(url, compression=None) as staying:
            staying.recv(60)
            staying.send(pack(THINK | {"stamp": 100.0}))
            going.set()
            assert unpack(staying.recv(300))["stamp"] == 100.0
    assert asked[0] == 0.0 and asked[-1] == 100.0 and len(asked) < 20, asked


def test_an_open_door_needs_a_key(policy):
    with pytest.raises(UserError, match="give a key"):
        PolicyServer(policy, "0.0.0.0")


def test_a_server_that_is_gone_is_named(policy):
    with serving(policy) as url, RemotePolicy(url) as remote:
        pass
    with pytest.raises(UserError, match="cannot be reached"):
        remote.think({}, "lift", 0.0)
    with pytest.raises(UserError, match="cannot be reached"):
        RemotePolicy(url, timeout=2)


def test_the_command_serves_until_it_is_told_to_stop():
    command = [sys.executable, "-m", "vla.cli", "serve", "--policy", "tabletop", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("tabletop at ws://127.0.0.1:")
        with RemotePolicy(line.split()[2].rstrip(",")) as remote:
            assert remote.metadata["horizon"] == 16
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0 and process.stderr.read() == ""
    finally:
        process.kill()


def test_bad_calls_are_one_line(capsys, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert main(["serve", "--policy", "tabletop", "--api-key-env", "NO_SUCH_KEY"]) == 2
    assert "holds no key" in capsys.readouterr().err
    assert main(["serve", "--policy", "tabletop", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "give a key" in capsys.readouterr().err


def test_the_client_needs_numpy_websockets_and_msgpack_only():
    code = """
import sys
for name in ("torch", "transformers", "yaml", "jaxtyping", "safetensors", "gymnasium", "mujoco", "cv2", "rich"):
    sys.modules[name] = None
import vla.serve.client
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
