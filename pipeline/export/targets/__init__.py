"""The exporters, a module per runtime; `runtimes.targets` has the table of what they make."""
