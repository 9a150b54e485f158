"""`vla bench actions` measures ours and the plain algorithm on the same chunks, which both say alike."""

import numpy as np
import pytest

from vla.actions.fast import FastTokens
from vla.bench import actions
from vla.errors import UserError


def test_both_sides_of_the_table(monkeypatch, capsys):
    monkeypatch.setattr(actions, "REPEATS", 1)
    rows = actions.bench_actions("tabletop", seed=0, episodes=4)["rows"]
    assert [row["unit"] for row in rows] == ["tokens", "tokens", "chunks/s", "chunks/s"]
    alike, naive, *speeds = rows
    assert alike["ratio"] == pytest.approx(1, rel=0.02)
    assert naive["peer_value"] == 16 * 7 and naive["ratio"] < 0.6
    assert all(row["value"] > 0 and row["peer_value"] > 0 for row in speeds)


def test_the_plain_algorithm_decodes_what_ours_does():
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (200, 16, 3)), axis=1).clip(-1.5, 1.5)
    ours, plain = FastTokens.fit(chunks), actions.PlainFast(chunks)
    for chunk in chunks[:20]:
        theirs = plain.decode(plain.encode(chunk))
        np.testing.assert_allclose(ours.decode(ours.encode(chunk[None]))[0], theirs, atol=1e-6)


def test_an_environment_that_always_draws_is_one_line():
    pytest.importorskip("gym_aloha")
    with pytest.raises(UserError, match="cannot run in real time or without pictures"):
        actions.bench_actions("aloha", seed=0)


def test_an_unknown_environment_is_named():
    with pytest.raises(UserError, match="no-such"):
        actions.bench_actions("no-such", seed=0)
