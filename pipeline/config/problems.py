"""What pydantic found wrong, in the words of params.yaml: the key, what was found, what would be right."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pipeline.core.params import closest, nearest


def describe(problem: ErrorDetails, raw: Any, schema: type[BaseModel]) -> str:
    """One line for a problem that `schema` has with `raw`, nested dicts as the file states them."""
    keys = _place(problem, raw)
    key, found = ".".join(keys), problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key{_meant(keys, raw, schema)}"
        case "missing":
            return f"{key}: missing"
        case "value_error":
            return f"{f'{key}: ' if key else ''}{problem['ctx']['error']}"
        case "union_tag_invalid":
            tag, expected = problem["ctx"]["discriminator"].strip("'"), problem["ctx"]["expected_tags"]
            known = [t.strip(" '") for t in expected.split(",")]
            return f"{key}.{tag}: {found[tag]!r} is not one of {expected}{nearest(found[tag], known)}"
        case "union_tag_not_found":
            return f"{key}.{problem['ctx']['discriminator'].strip(chr(39))}: missing"
        case _:
            return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, found {found!r:.200}"


def fields_at(schema: Any, raw: Any, keys: Sequence[str]) -> dict[str, Any]:
    """The fields that `schema` has at `keys`, by name; of the members of a union those that fit what `raw` says."""
    return {name: field for block in _blocks_at(schema, raw, keys) for name, field in block.model_fields.items()}


def _blocks_at(schema: Any, raw: Any, keys: Sequence[str], fitting: bool = True) -> list[type[BaseModel]]:
    """The blocks at `keys`; the last one's other members of a union too, unless they are to be `fitting`."""
    blocks, here = [schema], raw
    for number, key in enumerate(keys):
        blocks = [inner for block in blocks for inner in _below(block, key)]
        here = _at(here, key)
        if fitting or number < len(keys) - 1:
            blocks = [block for block in blocks if _fits(block, here)]
    return [block for block in blocks if _is_block(block)]


def _at(here: Any, key: str) -> Any:
    if isinstance(here, list):
        return here[int(key)]
    return here.get(key) if isinstance(here, Mapping) else None


def _place(problem: ErrorDetails, raw: Any) -> list[str]:
    """The keys of a problem's location.

    pydantic puts the tags of unions into a location; they are not keys of the file.
    """
    keys: list[str] = []
    here = raw
    for number, step in enumerate(problem["loc"]):
        if (isinstance(here, Mapping) and step in here) or (isinstance(here, list) and isinstance(step, int)):
            keys.append(str(step))
            here = here[step]  # type: ignore[index]
        elif problem["type"] == "missing" and number == len(problem["loc"]) - 1:
            keys.append(str(step))
    return keys


def _meant(keys: list[str], raw: Any, schema: type[BaseModel]) -> str:
    """The nearest key, in the block itself or, with a dot, in one below; else the block's keys."""
    *path, last = keys
    if others := [block for block in _blocks_at(schema, raw, path, fitting=False) if last in block.model_fields]:
        tags = {
            f"{name}: {value}"
            for block in others
            for name, kind in _literals(block).items()
            for value in kind
            if len(kind) == 1
        }
        return f"; it goes with {' or '.join(sorted(tags))}"
    fields = fields_at(schema, raw, path)
    deeper = sorted(_deeper(schema, raw, path, ""), key=lambda name: -name.count("."))
    known = {name.rsplit(".", 1)[-1]: name for name in deeper} | {name: name for name in fields}
    close = closest(last, known)
    if close:
        return f"; did you mean {known[close]!r}?"
    elsewhere = _of_another(keys, raw, schema)
    return nearest(last, fields) + (f"; it goes with {' or '.join(elsewhere)}" if elsewhere else "")


def _of_another(keys: Sequence[str], raw: Any, schema: type[BaseModel]) -> list[str]:
    """The tasks or formats, as `task: classify`, under which the same place has this key."""
    *path, last = keys
    here, found = raw, set()
    for n, key in enumerate(path, 1):
        here = _at(here, key)
        for block in _blocks_at(schema, raw, path[:n], fitting=False):
            if n == len(path) or _fits(block, here):
                continue
            inner = [block]
            for step in path[n:]:
                inner = [deeper for one in inner for deeper in _below(one, step) if _is_block(deeper)]
            if any(last in one.model_fields for one in inner):
                found |= {f"{name}: {kinds[0]}" for name, kinds in _literals(block).items() if len(kinds) == 1}
    return sorted(found)


def _deeper(schema: Any, raw: Any, path: list[str], before: str) -> Iterator[str]:
    """The dotted keys of the blocks in the block at `path`."""
    for name in fields_at(schema, raw, path):
        yield from _deeper(schema, raw, [*path, name], f"{before}{name}.")
    if before:
        yield from (f"{before}{name}" for name in fields_at(schema, raw, path))


def _below(block: Any, key: str) -> list[Any]:
    """The types that stand at `key` of a block, or of a dict's or a list's values; members of a union one by one."""
    if _is_block(block):
        return _members(block.model_fields[key].annotation) if key in block.model_fields else []
    return _members(get_args(block)[-1]) if get_origin(block) in (dict, list) else []


def _members(annotation: Any) -> list[Any]:
    if _is_block(annotation) or get_origin(annotation) in (dict, list):
        return [annotation]
    return [member for inner in get_args(annotation) for member in _members(inner)]


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fits(block: Any, raw: Any) -> bool:
    """Whether what `raw` says does not speak for another member of a union: no other task, format, kind or mode."""
    if not (_is_block(block) and isinstance(raw, Mapping)):
        return True
    return all(raw[name] in values for name, values in _literals(block).items() if name in raw)


def _literals(block: type[BaseModel]) -> dict[str, tuple[Any, ...]]:
    """The fields of one value or few: task, format, kind, mode."""
    return {n: get_args(f.annotation) for n, f in block.model_fields.items() if get_origin(f.annotation) is Literal}
