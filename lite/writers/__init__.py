"""Records to files: JSON results and overlay pictures, each complete under its name or not there."""

from lite.writers.overlays import write_overlay
from lite.writers.records import RecordWriter, Results, load_results

__all__ = ["RecordWriter", "Results", "load_results", "write_overlay"]
