"""`vla data doctor`: what is wrong with a dataset, where, and how it shows."""
