"""Panel and static figure: the only ipywidgets."""
