"""`vla data view`: a dataset to look at."""
