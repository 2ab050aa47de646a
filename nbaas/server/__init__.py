"""The Jupyter server extension: the only tornado."""
