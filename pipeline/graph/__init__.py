"""A net as a graph: batch norms folded, its cost counted."""
