"""What a cell needs, as values and source; and results merged back into the namespace."""
