"""People driving robots: devices, the live session, and the cockpit in a browser."""
