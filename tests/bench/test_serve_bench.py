"""`vla bench serve` measures both sides in one run."""

from vla.bench import serve


def test_what_serving_costs_is_measured_beside_an_echo(monkeypatch):
    monkeypatch.setattr(serve, "ROUNDS", 14)
    document = serve.bench_serve("tabletop")
    (row,) = document["rows"]
    assert document["device"] == "cpu"
    assert row["unit"] == "ms" and row["value"] > 0 and row["peer_value"] > 0
