"""The cockpit's server, over real sockets: whom it lets in, who drives, what stops the arm, what it survives."""

import http.client
import json
import random
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from cockpit_rig import rig
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

PATIENCE_S = 300
HAND = {"t": "hand", "clutch": False, "move": [0, 0, 0, 0, 0, 0], "gripper": 1, "at": 1.0}
PUSH = {**HAND, "clutch": True, "move": [0, 1, 0, 0, 0, 0]}


@pytest.fixture(scope="module")
def cockpit(tmp_path_factory):
    with rig(tmp_path_factory.mktemp("cockpit") / "data", heartbeat_s=3.0) as made:
        yield made


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE_S) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def states(connection, until, what):
    """Read messages until a state satisfies `until`; what else comes is passed over."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = connection.recv(PATIENCE_S)
        if isinstance(message, bytes):
            continue
        message = json.loads(message)
        if message["t"] == "state" and until(message):
            return message
    raise AssertionError(what)


def operate(connection):
    """Be the operator, as soon as whoever was before has gone."""
    deadline = time.monotonic() + PATIENCE_S
    while states(connection, lambda _: True, "it tells")["role"] != "operator":
        assert time.monotonic() < deadline
        connection.send(json.dumps({"t": "lead"}))


def push(connection):
    """Take hold, and push towards the middle until the arm is seen to move."""
    start = states(connection, lambda _: True, "it tells")["tool"][1]
    hold = {**PUSH, "move": [0, -1 if start > 0 else 1, 0, 0, 0, 0]}
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        connection.send(json.dumps(HAND))
        time.sleep(0.2)
        for _ in range(20):
            connection.send(json.dumps(hold))
            now = states(connection, lambda _: True, "it tells")
            if abs(now["tool"][1] - start) > 0.01:
                return now
    raise AssertionError(f"the arm does not move: {now}")


@pytest.mark.parametrize("path", ["/", "/cockpit.js", "/cockpit.css", "/live", "/nothing", "/?token=wrong", "//[x"])
def test_without_the_token_there_is_401_and_nothing_else(cockpit, path):
    connection = http.client.HTTPConnection(urlsplit(cockpit.cockpit.url).netloc, timeout=PATIENCE_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (401, b"") and "websockets" not in str(answer.headers).lower()
    connection.close()


def test_the_token_opens_the_page_and_its_files(cockpit):
    url = cockpit.cockpit.url
    status, page, headers = get(url)
    assert (
        status == 200 and b"Take hold" in page and headers["Content-Security-Policy"].startswith("default-src 'self'")
    )
    for name in ("cockpit.js", "cockpit.css"):
        assert f"{name}?token={cockpit.cockpit.token}".encode() in page
        assert get(url.replace("/?", f"/{name}?"))[0] == 200
    assert get(url.replace("/?", "/../cli.py?"))[0] == 404


def test_a_page_of_another_origin_is_refused(cockpit):
    with pytest.raises(InvalidStatus) as refused, connect(cockpit.live_url, origin="http://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403
    host = urlsplit(cockpit.live_url).netloc
    with connect(cockpit.live_url, origin=f"http://{host}"):
        pass


def test_one_page_operates_and_others_watch_but_may_stop_the_arm(cockpit):
    with connect(cockpit.live_url) as operator:
        operate(operator)
        with connect(cockpit.live_url) as watcher:
            states(watcher, lambda now: now["role"] == "watcher", "the second watches")
            watcher.send(json.dumps(PUSH))
            watcher.send(json.dumps({"t": "wish", "what": "start"}))
            states(operator, lambda now: now["pages"] == 2, "the operator knows")
            watcher.send(json.dumps({"t": "wish", "what": "stop"}))
            stopped = states(operator, lambda now: now["stopped"], "it stops")
            assert not stopped["recorder"]["recording"]
            operator.send(json.dumps({"t": "wish", "what": "release"}))
            states(operator, lambda now: not now["stopped"], "the operator releases it")
    with connect(cockpit.live_url) as late:
        operate(late)


def test_whoever_lets_go_and_takes_hold_between_two_control_periods_has_hold(cockpit):
    with connect(cockpit.live_url) as connection:
        operate(connection)
        for _ in range(10):
            connection.send(json.dumps(HAND))
            connection.send(json.dumps({**PUSH, "move": HAND["move"]}))
            states(connection, lambda state: state["driver"] == "person", "the hand has hold")
            connection.send(json.dumps(HAND))
            states(connection, lambda state: state["driver"] == "nobody", "it has let go")


@pytest.mark.parametrize("way", ["silence", "gone", "closed"])
def test_an_operator_who_is_lost_stops_the_arm(cockpit, way):
    with connect(cockpit.live_url) as operator:
        operate(operator)
        trips = push(operator)["trips"]
        if way == "gone":
            operator.send(json.dumps({"t": "gone"}))
        elif way == "closed":
            operator.close()
        deadline = time.monotonic() + PATIENCE_S
        while not (cockpit.session.moment().trips > trips and cockpit.session.moment().at_rest):
            assert time.monotonic() < deadline, cockpit.session.moment().notes
            time.sleep(0.02)
        assert not cockpit.session.moment().engaged and cockpit.session.moment().why
        if way == "silence":
            step = cockpit.session.moment().step
            while cockpit.session.moment().step < step + 5:
                operator.send(json.dumps(PUSH))
                time.sleep(0.05)
            assert not cockpit.session.moment().engaged, "a key that is still down is no new hold"


def test_a_page_knows_the_rate_before_it_is_told_of_takes(cockpit):
    with connect(cockpit.live_url) as page:
        texts = (json.loads(message) for message in page if isinstance(message, str))
        kinds = [message["t"] for message, _ in zip(texts, range(4), strict=False)]
    assert kinds.index("state") < kinds.index("takes")


def test_pictures_come_as_jpeg_with_the_time_of_their_capture(cockpit):
    with connect(cockpit.live_url) as page:
        deadline = time.monotonic() + PATIENCE_S
        cameras = set()
        while len(cameras) < 2 and time.monotonic() < deadline:
            data = page.recv(PATIENCE_S)
            if isinstance(data, bytes):
                length = int.from_bytes(data[:2], "big")
                head = json.loads(data[2 : 2 + length])
                assert data[2 + length : 4 + length] == b"\xff\xd8" and head["captured"] <= time.monotonic()
                cameras.add(head["camera"])
                page.send(json.dumps({"t": "seen", "number": head["number"]}))
        assert cameras == {"front", "wrist"}


def nonsense(dice: random.Random) -> str | bytes:
    """Something no page would say."""
    kinds = ["hand", "wish", "seen", "gone", "lead", "", None, 7, [], {"t": "hand"}]
    values = [None, True, -1, 1e308, float("nan"), "x" * 50, [], {}, [1] * 6, ["a"] * 6, [float("inf")] * 6, 10**400]
    choice = dice.randrange(4)
    if choice == 0:
        return dice.randbytes(dice.randrange(200))
    if choice == 1:
        return "".join(map(chr, dice.choices(range(1, 0xD000), k=dice.randrange(100))))
    if choice == 2:
        return "[" * dice.randrange(1, 4000)
    keys = dice.sample(["clutch", "move", "gripper", "at", "what", "value", "number"], 5)
    return json.dumps({"t": dice.choice(kinds), **{key: dice.choice(values) for key in keys}})


def test_five_hundred_messages_of_nonsense_leave_it_running_and_the_arm_at_rest(cockpit):
    dice = random.Random(0)
    connection = connect(cockpit.live_url)
    for _ in range(500):
        try:
            connection.send(nonsense(dice))
        except ConnectionClosed:
            connection = connect(cockpit.live_url)
    connection.close()
    with connect(cockpit.live_url) as huge:
        huge.send("x" * 1_000_000)
        with pytest.raises(ConnectionClosed):
            while True:
                huge.recv(PATIENCE_S)
    with connect(cockpit.live_url) as page:
        operate(page)
        now = states(page, lambda now: now["at_rest"], "it still tells")
        assert not now["engaged"] and np.isfinite(now["state"]).all()
        page.send(json.dumps({"t": "wish", "what": "release"}))
        push(page)
