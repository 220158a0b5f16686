"""Where a file came from, told from dvc.lock, git and the chain's own files."""
