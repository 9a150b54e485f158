import xml.etree.ElementTree as xml

from vla.evaluation.charts import Rate, histogram, rate_bars


def bars(svg: str, name: str = "bar") -> list[xml.Element]:
    return [element for element in xml.fromstring(svg).iter() if name in (element.get("class") or "").split()]


def test_every_group_has_a_bar_as_long_as_its_rate():
    svg = rate_bars([Rate("push", 0.5, 0.4, 0.6, 20), Rate("<lift>", 1.0, 0.9, 1.0, 20)])
    half, full = (float(bar.get("width") or 0) for bar in bars(svg))
    assert full == 2 * half
    assert "&lt;lift&gt;" in svg


def test_a_group_without_episodes_has_no_interval():
    svg = rate_bars([Rate("push", None, 0.0, 1.0, 0)])
    assert bars(svg, "whisker") == [] and "–" in svg


def test_a_histogram_counts_what_is_in_each_bin():
    svg = histogram([("good", [1, 1, 1, 5]), ("bad", [9])], "steps", bins=10)
    heights = [float(bar.get("height") or 0) for bar in bars(svg)]
    assert len(heights) == 3 and heights[0] == 3 * heights[1] == 3 * heights[2]
    assert len(bars(svg, "bad")) == 1


def test_one_outlier_does_not_hide_the_rest():
    svg = histogram([("fast", [1.0, 1.1, 1.2] * 300 + [900.0])], "ms")
    assert len(bars(svg)) >= 3


def test_nothing_measured_says_so():
    assert "nothing measured" in histogram([("age", [])], "s")
    assert "nothing measured" in histogram([], "s")


def test_zeros_are_drawn():
    assert len(bars(histogram([("age", [0.0, 0.0])], "s"))) == 1
