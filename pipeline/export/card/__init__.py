"""What goes along with exported files: the model card, preprocessing, limits."""
