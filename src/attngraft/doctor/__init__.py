"""Finds in a minute what would break later: a table of checks, each with its finding and the way out."""

from attngraft._core.callables import call_package
from attngraft.doctor.examination import doctor
from attngraft.doctor.findings import (
    Check,
    Diagnosis,
    Finding,
    Outcome,
    check,
    diagnose,
    examine,
    failed,
    passed,
    schema,
    skipped,
    warned,
)
from attngraft.doctor.mechanism.checklist import MODULE_CHECKS
from attngraft.doctor.mechanism.subject import Subject, subject

__all__ = [
    "MODULE_CHECKS",
    "Check",
    "Diagnosis",
    "Finding",
    "Outcome",
    "Subject",
    "check",
    "diagnose",
    "doctor",
    "examine",
    "failed",
    "passed",
    "schema",
    "skipped",
    "subject",
    "warned",
]

call_package(__name__, doctor)
