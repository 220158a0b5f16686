"""The one kind of error that is the user's to mend: shown without a traceback, exit code 1."""

import re


class InputError(ValueError):
    """Something outside the code is wrong: a path, a label, a params key, a weights file.

    The message names the file, the row or key, what was found and what was expected.
    """


def without_password(uri: str) -> str:
    """An address as it may stand in a message.

    >>> without_password("mongodb://me:secret@db.example:27017")
    'mongodb://db.example:27017'
    >>> without_password("mongodb://me:s@cret@db.example:27017/herd")
    'mongodb://db.example:27017/herd'
    """
    return re.sub(r"//[^/]*@", "//", uri)
