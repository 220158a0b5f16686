"""Augmentation: policies, and offline copies of a train split."""
