"""The slow system: it looks, reads and speaks, and leaves latents behind for the fast one."""
