import pytest

from vla.evaluation.statistics import percentiles, success_summary, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1.0), (170, 200, 0.7940, 0.8928)],
)
def test_wilson_interval_matches_published_values(successes, trials, low, high):
    assert wilson(successes, trials) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_no_trials_say_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert success_summary([]) == {"episodes": 0, "success_rate": None, "ci95": [0.0, 1.0]}


def test_a_summary_counts():
    summary = success_summary([True, False, True, True])
    assert summary["episodes"] == 4 and summary["success_rate"] == 0.75


def test_percentiles_of_nothing_are_null():
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}


def test_percentiles():
    assert percentiles(list(range(101))) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
