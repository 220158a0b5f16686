"""From a dataset as its owner has it to checked, split images: rules, ledger, splits."""
