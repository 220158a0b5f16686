"""The one image resize, boxes, and how outputs of a net become labels and objects."""
