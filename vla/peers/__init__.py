"""Other people's policies in the harness of ours: LeRobot's, driven, trained and measured on the same episodes."""
