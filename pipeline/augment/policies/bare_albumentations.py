"""albumentations as `A`, imported without a word to a package index and without torch."""

import os
import sys

# Read while albumentations is imported: without it the import asks a package index for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

# Its steps for torch, which albumentations does without where torch is not installed. Nothing here takes them, and with
# them each process that augments takes 2.4 s to begin in place of 0.9. None is Python's word for a module that is not
# there; whoever imports this one later has it, though not as names of albumentations itself.
FOR_TORCH = "albumentations.pytorch"
sys.modules.setdefault(FOR_TORCH, None)  # type: ignore[arg-type]
try:
    import albumentations as A
finally:
    if sys.modules[FOR_TORCH] is None:
        del sys.modules[FOR_TORCH]

__all__ = ["A"]
