"""How layers are quantized: ranges, observers, equalization, what stays float."""
