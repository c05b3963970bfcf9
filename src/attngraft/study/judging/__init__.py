"""Judge what was run: pair the runs, estimate their differences, decide."""
