"""Rollouts of policies: success rates with intervals, latencies, videos and reports."""
