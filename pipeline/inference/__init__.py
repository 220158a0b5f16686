"""A trained model on new images: predict, serving, sliding windows, the demo page."""
