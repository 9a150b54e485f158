"""Datasets: recording, still scenes, and the decoded form training reads."""
