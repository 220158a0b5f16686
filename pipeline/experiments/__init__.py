"""Runs compared: backbones, baselines, budgets."""
