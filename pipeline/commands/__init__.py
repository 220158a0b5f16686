"""What each command of `pocketlens` does, with what argparse read; only those that ask for a library load it."""
