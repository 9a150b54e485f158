"""Actions and states as models and robots see them: normalisation and rotations."""
