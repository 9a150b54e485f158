"""A policy on a server is the policy itself, for every command that drives one; and what can go wrong is named."""

import json
import re
import shutil
import signal
import socket
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from served import Server
from websockets.sync.server import serve

from vla.cli import main
from vla.errors import Unreachable, UserError
from vla.evaluation.episode import Play, play_episode
from vla.policies import load_here, load_policy, weights_of
from vla.robots.gym_sim import make_robot
from vla.runtime.loop import Timing
from vla.runtime.threaded_pilot import ThreadedPilot
from vla.serve.background import beside
from vla.serve.client import RemotePolicy
from vla.serve.server import PolicyServer

SEED = 100_000
PICTURE = {"front": np.zeros((96, 96, 3), np.uint8)}


@pytest.fixture(scope="module")
def server():
    server = Server("-m", "vla.cli", "serve", "--policy", "tabletop", "--port", "0")
    yield server
    server.kill()


class Sent:
    """Notes what a policy sends to the robot."""

    def begin(self):
        self.actions = []

    def add(self, view):
        self.actions.append(view.action)


def test_an_episode_has_the_same_actions(server):
    def play(policy):
        sent = Sent()
        with make_robot("tabletop", "lift") as robot:
            result = play_episode(policy, robot, Play(Timing(s2_delay=0.2)), SEED, recorder=sent)
        return result, np.array(sent.actions)

    with RemotePolicy(server.url) as remote:
        assert remote.metadata["weights"].startswith(weights_of(server.url))
        there, actions = play(remote)
    here, wanted = play(load_policy("tabletop"))
    np.testing.assert_allclose(actions, wanted, atol=1e-5)
    assert (there.success, there.steps, there.instruction) == (here.success, here.steps, here.instruction)


def test_rollout_and_eval_take_its_address_where_they_take_a_folder(server, tmp_path, capsys):
    lines = {}
    for policy in (server.url, "tabletop"):
        assert main(["rollout", "--policy", policy, "--seed", str(SEED), "--s2-delay", "0.2"]) == 0
        lines[policy] = capsys.readouterr().out
    assert lines[server.url] == lines["tabletop"]
    found = {}
    for name, policy, workers in (("there", server.url, "2"), ("here", "tabletop", "1")):
        file = tmp_path / f"{name}.json"
        asked = ["--task", "lift", "--episodes", "2", "--seed", str(SEED), "--workers", workers]
        assert main(["eval", "--policy", policy, *asked, "--json", str(file)]) == 0
        found[name] = json.loads(file.read_text())
    assert found["there"]["details"] == found["here"]["details"]
    assert found["there"]["policy"] == server.url


@pytest.mark.parametrize(
    "command",
    [
        ["rollout"],
        ["rollout", "--real-time", "--out", "OUT"],
        ["rollout", "--robot", "dds", "--spec", "tabletop", "--loopback"],
        ["eval"],
        ["teleop", "--out", "OUT"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_nothing_there_is_one_line(command, tmp_path, capsys):
    with socket.socket() as nobody:  # a port of ours on which nobody listens
        nobody.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{nobody.getsockname()[1]}"
        place = {"OUT": str(tmp_path / "out")}
        assert main([*(place.get(word, word) for word in command), "--policy", url]) == 2
    said = capsys.readouterr().err
    assert said == f"vla: policy server {url} cannot be reached: Connection refused; is vla serve running there?\n"


def test_it_wants_its_key_from_the_environment(untrained, monkeypatch, capsys):
    with beside(PolicyServer(load_here(str(untrained)), api_key="open sesame").serve) as url:
        for key in ("", "open sesam"):
            monkeypatch.setenv("VLA_API_KEY", key)
            assert main(["eval", "--policy", url]) == 2
            said = f"vla: policy server {url} refuses: it wants another API key (VLA_API_KEY)\n"
            assert capsys.readouterr().err == said
        monkeypatch.setenv("VLA_API_KEY", "open sesame")
        assert load_policy(url).config.replan_steps == 4


def test_one_for_another_robot_is_refused_as_its_folder_is(untrained, tmp_path, capsys):
    other = shutil.copytree(untrained, tmp_path / "other")
    spec = other / "robot_spec.yaml"
    spec.write_text(re.sub("rate_hz: 20.*", "rate_hz: 10", spec.read_text()))
    said = []
    with beside(PolicyServer(load_here(str(other))).serve) as url:
        for policy in (str(other), url):
            for command in (["rollout"], ["eval", "--episodes", "1"]):
                assert main([*command, "--policy", policy]) == 2
                said.append(capsys.readouterr().err)
    assert set(said) == {said[0]} and "trained for another robot" in said[0] and "rate_hz" in said[0]


@pytest.mark.parametrize(
    ("url", "words"),
    [("ws://", "give ws://HOST:PORT"), ("ws://127.0.0.1:nine", "give ws://HOST:PORT"), ("http://here", "no such")],
)
def test_what_is_no_address_is_told(url, words, capsys):
    assert main(["eval", "--policy", url]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_what_needs_the_files_says_so(server, tmp_path, capsys):
    image = tmp_path / "a.png"
    image.touch()
    assert main(["describe", "--policy", server.url, "--image", str(image), "what is there?"]) == 2
    assert "this needs the policy's files" in capsys.readouterr().err


def test_a_late_answer_is_not_taken_for_the_next_one(server):
    with RemotePolicy(server.url, timeout=2) as remote:
        assert remote.think(PICTURE, "lift the red cube", 1.0).stamp == 1.0
        server.tell(signal.SIGSTOP)
        try:
            with pytest.raises(Unreachable, match="has not answered for 2 s"):
                remote.think(PICTURE, "lift the red cube", 2.0)
        finally:
            server.tell(signal.SIGCONT)
    with RemotePolicy(server.url, timeout=300, metadata=remote.metadata) as patient:
        remote._slow._timeout = 300  # what is asked now may take its time on a busy machine
        assert [one.think(PICTURE, "lift the red cube", 3.0).stamp for one in (remote, patient)] == [3.0, 3.0]


def test_a_server_that_takes_nothing_any_more_is_not_waited_for_forever(server):
    large = {"front": np.zeros((4000, 4000, 3), np.uint8)}  # more than the system keeps for it
    with RemotePolicy(server.url, timeout=2) as remote:
        server.tell(signal.SIGSTOP)
        try:
            with pytest.raises(Unreachable):
                remote.think(large, "lift the red cube", 1.0)
            with pytest.raises(Unreachable, match="cannot be reached"):
                remote.think(PICTURE, "lift the red cube", 2.0)
        finally:
            server.tell(signal.SIGCONT)


def test_a_server_that_is_back_is_gone_on_with_unless_it_offers_another_policy(untrained):
    policy = load_here(str(untrained))
    with beside(PolicyServer(policy).serve) as url:
        remote = RemotePolicy(url)
    port = int(url.rpartition(":")[2])
    with pytest.raises(Unreachable, match="cannot be reached"):
        remote.think(PICTURE, "lift the red cube", 1.0)
    with beside(PolicyServer(policy, port=port).serve):
        assert remote.think(PICTURE, "lift the red cube", 2.0).stamp == 2.0
    next(policy.s1.parameters()).data += 1
    with (
        beside(PolicyServer(policy, port=port).serve),
        pytest.raises(UserError, match="offers another policy than before"),
    ):
        remote.think(PICTURE, "lift the red cube", 3.0)


def test_what_is_no_policy_server_is_told():
    with serve(lambda connection: connection.send("hello"), "127.0.0.1", 0) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            with pytest.raises(UserError, match="is it vla serve"):
                RemotePolicy(f"ws://127.0.0.1:{other.socket.getsockname()[1]}")
        finally:
            other.shutdown()
            thread.join()


def test_in_teleoperation_the_arm_holds_without_it_and_it_may_be_engaged_again(untrained):
    def until(true):
        for step in range(100_000):
            action = pilot.next(seen, time.monotonic(), step)
            if true(action):
                return True
            time.sleep(0.002)
        return False

    served = load_here(str(untrained))
    with make_robot("tabletop") as robot, ExitStack() as ending:
        seen = robot.reset(SEED)
        with beside(PolicyServer(served).serve) as url:
            pilot = ThreadedPilot(load_policy(url), robot.spec)
            ending.callback(pilot.close)
            pilot.instruct("lift the red cube")
            pilot.engage(seen)
            assert until(lambda action: action is not None), "it drives"
        assert until(lambda action: pilot.status().failed)
        assert "policy server" in pilot.status().failed
        assert pilot.next(seen, time.monotonic(), 0) is None, "hold"
        with beside(PolicyServer(served, port=int(url.rpartition(":")[2])).serve):
            pilot.engage(seen)
            assert until(lambda action: action is not None), "it drives again"
