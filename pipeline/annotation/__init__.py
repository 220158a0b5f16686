"""The way to an annotation tool and back, and which images are worth it: layers of labels beside the source."""
