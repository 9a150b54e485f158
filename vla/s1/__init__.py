"""The fast system: it reads the newest latents, its own cameras and joints, and drives the robot."""
