"""The magics: the only IPython, the only reader of the live kernel."""
