"""Deciding labels: people first, then the model where it is sure enough, then as given."""
