"""Sheets of images and plots: from samples and numbers, knowing no stage."""
