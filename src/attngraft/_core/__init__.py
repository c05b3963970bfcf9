"""What everything else stands on: errors, the registry, checks. Imports torch and nothing of ours above it."""
