"""From the live notebook to a bundle's contents, and from a result back into the notebook."""

from nbaas.capture.merge import merge_result
from nbaas.capture.script import Script, export_script
from nbaas.capture.values import capture_cell

__all__ = ["Script", "capture_cell", "export_script", "merge_result"]
