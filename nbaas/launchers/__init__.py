"""A command on a host becomes a process; processes end with their job."""
