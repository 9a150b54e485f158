"""`vla bench`: ours and a peer, the same work in the same run."""
