"""params.yaml against the schemas, and `pocketlens add`."""
