"""The one kind of error that is the user's to mend: shown without a traceback, exit code 1."""

import re
import unicodedata


class InputError(ValueError):
    """Something outside the code is wrong: a path, a label, a params key, a weights file.

    The message names the file, the row or key, what was found and what was expected.
    """


# names of what a query proves with that it may read: sig, X-Amz-Signature, access_token, api_key
SECRET = re.compile(
    r"([?&][^=&#\s'\"]*(?:sig|token|key|secret|passw|pwd|credential|auth)[^=&#\s'\"]*=)[^&#\s'\"]+", re.IGNORECASE
)


def without_password(uri: str) -> str:
    """An address as it may stand in a message.

    >>> without_password("mongodb://me:secret@db.example:27017")
    'mongodb://db.example:27017'
    >>> without_password("mongodb://me:s@cret@db.example:27017/herd")
    'mongodb://db.example:27017/herd'
    >>> without_password("https://farm.example/herd.json?v=2&sig=s3cret")
    'https://farm.example/herd.json?v=2&sig=***'
    """
    return SECRET.sub(r"\1***", re.sub(r"//[^/]*@", "//", uri))


def shown(name: str) -> str:
    r"""A name as it may stand in a message or a table: bytes that are not UTF-8, and what would break a line, escaped.

    >>> print(shown("caf\udce9/two\nlines.jpg"))
    caf\xe9/two\nlines.jpg
    """
    return "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in name)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
