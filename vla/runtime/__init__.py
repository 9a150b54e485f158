"""The control loop that runs a slow S2 and a fast S1 each at its own rate."""
