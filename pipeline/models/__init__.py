"""The nets: backbones, the three kinds of head, and how they are built, loaded and brought into the form that ships."""
