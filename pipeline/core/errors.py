"""The one kind of error that is the user's to mend: shown without a traceback, exit code 1."""


class InputError(ValueError):
    """Something outside the code is wrong: a path, a label, a params key, a weights file.

    The message names the file, the row or key, what was found and what was expected.
    """
