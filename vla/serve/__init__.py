"""A policy behind a websocket: the server, and a client that drives a robot with it."""
