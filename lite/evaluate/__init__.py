"""Predictions + ground truth -> numbers, one module a metric; nothing here runs a network."""
