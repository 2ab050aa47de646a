"""From a module to a version directory to an HTTP endpoint."""
