"""What stands in the folder of a study, by name; `attngraft.study.running.records` says where runs are kept."""

COSTS = "costs.json"
DAMAGED = "damaged"
EXTENSIONS = "extensions.json"
FAILURES = "failures"
FOLDS = "folds"
RECORDS = "records"
RECORD_LINES = "records.jsonl"
REPORT = ("report.md", "table.tex", "breakdown.tex", "report.html")
RESULTS = "results.json"
RUNS = "runs"
SEARCH = "search.json"
STATUS = "status.json"

WRITTEN = (COSTS, DAMAGED, EXTENSIONS, FAILURES, FOLDS, RECORDS, RECORD_LINES, *REPORT, RESULTS, RUNS, STATUS)
"""What a study writes into its folder once its plan is there."""
