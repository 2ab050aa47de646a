"""One rank, from its start to its exit code."""
