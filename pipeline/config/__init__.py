"""params.yaml against the schemas, `pocketlens add`, `epochs` and `repro`."""
