"""Training: one loop, and the stages that run in it."""
