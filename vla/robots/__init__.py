"""Bodies a policy can drive: one protocol, and the simulated robots behind it."""
