"""What `trace` found, as a short tree for people."""

import json
from typing import Any

Node = tuple[str, list["Node"]]
SHOWN = 12  # characters of a hash


def trace_text(found: dict[str, Any]) -> str:
    """Lines of a tree; hashes are cut to their beginning, which is enough to find them."""
    head = f"{found['file']}  ({found['size_bytes']:,} bytes, sha256 {found['sha256'][:SHOWN]})"
    state = found["state"] + (f": {found['why']}" if "why" in found else ": as dvc.lock says")
    nodes: list[Node] = [(f"state    {state}", [])]
    others = [place for place in found["places"] if place != found["file"]]
    if others:
        nodes.append(("same as  " + ", ".join(others[:3]) + (f" and {len(others) - 3} more" if others[3:] else ""), []))
    made = [_made(row) for row in found["made_from"]]
    made += [(f"{len(found['code'])} modules of code", [])] if found["code"] else []
    nodes.append((f"made by  {found['stage']}, into {found['out']['path']}  {found['out']['md5'][:SHOWN]}", made))
    if found["params"]:
        nodes.append(("params", [(f"{key}: {_value(value)}", []) for key, value in found["params"].items()]))
    if "picture" in found:
        nodes.append(_image(found["picture"]))
    if "dataset" in found:
        nodes.append(_dataset(found["dataset"]))
    if "run" in found:
        nodes += _run(found)
    nodes.append((f"git      {_git(found['git'])}", []))
    return "\n".join([head, *_lines(nodes, "")])


def _lines(nodes: list[Node], indent: str) -> list[str]:
    lines = []
    for number, (text, children) in enumerate(nodes):
        last = number == len(nodes) - 1
        lines.append(f"{indent}{'└─' if last else '├─'} {text}")
        lines += _lines(children, indent + ("   " if last else "│  "))
    return lines


def _made(row: dict[str, Any]) -> Node:
    by = f", by {row['by']}" if "by" in row else ""
    return f"{row['path']}  {row['md5'][:SHOWN]}{by}", [_made(inner) for inner in row.get("made_from", [])]


def _dataset(dataset: dict[str, Any]) -> Node:
    counts = ", ".join(f"{n} {split}" for split, n in (dataset["counts"] or {}).items())
    source = f"from {dataset['path']}, format {dataset['format']}"
    source += f"  {dataset['source_md5'][:SHOWN]}" if dataset["source_md5"] else ""
    layers: list[Node] = [
        (f"layer     {name}, sha256 {hash_[:SHOWN]}", []) for name, hash_ in dataset["layers"].items()
    ]
    children: list[Node] = [(source, []), *layers, (f"ingested  {dataset['ingested_md5'][:SHOWN]}", [])]
    return f"dataset  {dataset['name']}" + (f": {counts} images" if counts else ""), children


def _image(image: dict[str, Any]) -> Node:
    labels = f", labelled {', '.join(image['labels'])}" if image.get("labels") else ""
    split = f" of {image['split']}" if image.get("split") else ""
    children: list[Node] = []
    if "ingested" in image:
        children.append((f"of       {image['ingested']}", []))
    if image.get("source"):
        frame = f", frame {image['frame']}" if "frame" in image else ""
        children.append((f"taken from {image['source']}{frame}", []))
    if "why" in image:
        children.append((image["why"], []))
    return f"image  {image['id']}{split}{labels}", children


def _run(found: dict[str, Any]) -> list[Node]:
    nodes: list[Node] = [(f"run      {found['run']}" + (f", target {found['target']}" if found["target"] else ""), [])]
    verdict = found["verdict"]
    if verdict is None:
        nodes.append(("verify   has not judged this state", []))
    else:
        said = "passed" if verdict["passed"] else "FAILED"
        note = "" if verdict["recorded"] else ", not recorded in dvc.lock for these exports: it failed, or is of others"
        shown = {t: r for t, r in verdict["targets"].items() if found["target"] in (None, t)}
        rows: list[Node] = [(_target(t, r, verdict["metric"]), []) for t, r in shown.items()]
        nodes.append((f"verify   {said}{note}", rows))
    if found["lock"]:
        nodes.append((f"lock     {found['lock'][:SHOWN]} (the MLflow tag pocketlens.lock)", []))
    mlflow = found.get("mlflow_error") or ", ".join(found["mlflow"]) or "not tracked in this state"
    nodes.append((f"MLflow   {mlflow}", []))
    return nodes


def _target(target: str, row: dict[str, Any], metric: str) -> str:
    if row[metric] is None or row["drop"] is None:
        figures = f"{metric} undefined"  # also of a file that could not be judged
    else:
        drop = row["drop"]
        than = f"{abs(drop):.4f} {'below' if drop > 0 else 'above'} float" if drop else "as float"
        figures = f"{metric} {row[metric]:.4f}, {than}"
    reason = f"; {row['reason']}" if row["reason"] else ""
    size = "" if row["size_ratio"] is None else f", {row['size_ratio']:.2f} of its size"
    return f"{target}: {figures}{size}{reason}"


def _git(git: dict[str, Any]) -> str:
    recorded = (
        f"in dvc.lock since commit {git['recorded_in'][:SHOWN]}" if git["recorded_in"] else "no commit has it yet"
    )
    head = git.get("mlflow.source.git.commit")
    dirty = ", with changes" if git.get("pocketlens.git.dirty") == "true" else ""
    return recorded + (f"; the project is at {head[:SHOWN]}{dirty}" if head else "; not in git")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
