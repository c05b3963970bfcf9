"""What networks are trained for: their losses, measures and predictions."""
