"""Figures from truth and predictions."""
