"""Markets with a known truth, to fit against."""
