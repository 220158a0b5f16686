"""params.yaml against the schemas, `pocketlens add` and `epochs`."""
