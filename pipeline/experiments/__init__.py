"""Runs compared: backbones, baselines, budgets; and datasets: two versions, the sides of a split."""
