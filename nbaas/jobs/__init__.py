"""A job is a folder with a supervisor: submit, follow, stop."""
