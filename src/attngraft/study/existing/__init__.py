"""Judge runs that exist already, of whatever program, and combine the verdicts of several studies."""
