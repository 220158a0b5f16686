"""The commands on labels: `annotate`, `annotated`."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.common import DATABASE, check_ingested
from pipeline.core.errors import InputError
from pipeline.core.lines import check_size, read_rows

if TYPE_CHECKING:
    from pipeline.annotation.cvat_server import Cvat
    from pipeline.annotation.label_studio import LabelStudio
    from pipeline.annotation.outgoing import Predict
    from pipeline.annotation.project import Project
    from pipeline.annotation.sent import Sent
    from pipeline.config.params import Params
    from pipeline.core.sample import Sample

INGESTED, LABELS = Path("data/ingested"), Path("labels")
CVAT = "cvat"
MOST_PIPED = 64 << 20  # letters of ids


def annotate(args: argparse.Namespace) -> None:
    from pipeline.annotation.outgoing import chosen, outgoing
    from pipeline.annotation.project import project_of
    from pipeline.annotation.sending import Wishes, send
    from pipeline.config.params import read_params
    from pipeline.core.names import NAME, NAMED

    params = read_params()
    run = args.run or (args.name if args.name not in params.datasets and args.name in params.runs else None)
    name = params.run(run).dataset if run else args.name
    if args.run and args.name not in (name, args.run):
        raise InputError(f"--run {run}: its dataset is {name}; expected a run on {args.name}")
    params.dataset(name)
    check_ingested(name)
    if args.out and args.to != CVAT:
        raise InputError(f"--to {args.to}: --out goes with --to cvat")
    if args.out and not NAME.fullmatch(args.out.name):
        raise InputError(f"--out {args.out}: a folder called {args.out.name!r}; expected {NAMED}")
    if args.to == CVAT:
        _refuse(args, "with --to cvat", *(["url"] if args.out else []), "token", "images", "annotators")
    over = _cvat(args.url) if args.to == CVAT and not args.out else None
    server = None if args.to == CVAT else _server(args)
    project = project_of(name, INGESTED, LABELS)
    model, predict = _model(run) if run else ("", None)
    samples = chosen(project.folder, args.split, _tagged(params, name, args.tag) if args.tag else _ids(args.ids))
    rows, sure = outgoing(project.folder, samples, project.dataset, model, predict, args.not_blind)
    if server is None:
        print(_to_cvat(over, args.out, project, rows))
        return
    wishes = Wishes(args.images or str(INGESTED.absolute()), args.annotators or 1, bool(run) and not args.ids)
    with server:
        print(send(server, project, rows, sure, wishes))
    print(f"next: label them there; what people did comes back by `pocketlens annotated {name} --name LAYER`")


def _to_cvat(server: "Cvat | None", out: Path, project: "Project", rows: list["Sent"]) -> str:
    from pipeline.annotation import cvat, cvat_sending

    fetched = f"what people did comes back by `pocketlens annotated {project.name} --name LAYER"
    if server is None:
        said = cvat.send(out, project, rows)
        made = "a task with its labels.json, its images/ sorted as predefined, and its annotations.xml as `CVAT 1.1`"
        return f"{said}\nnext: {made}; {fetched} --xml FILE`"
    with server:
        said = cvat_sending.send(server, project, rows)
    return f"{said}\nnext: label them there, and set each job that is done to `completed`; {fetched} --from cvat`"


def annotated(args: argparse.Namespace) -> None:
    from pipeline.annotation import cvat, cvat_fetching
    from pipeline.annotation.fetching import fetch
    from pipeline.annotation.layers import write_fetched
    from pipeline.annotation.project import project_of
    from pipeline.config.params import read_params
    from pipeline.core.names import check_name

    layers = read_params().dataset(args.dataset).layers
    check_ingested(args.dataset)
    check_name(args.name, "--name")
    if args.task is not None:
        check_name(args.task, "--task")
    if args.xml:
        _refuse(args, "with --xml", "from", "url", "token", "project", "reviewers")
        project = project_of(args.dataset, INGESTED, LABELS)
        fetched = cvat.fetch(args.xml, project, args.empty_is_background, args.by or "", args.task)
    elif getattr(args, "from") == CVAT:
        _refuse(args, "with --from cvat", "token", "reviewers", "empty_is_background", "task")
        with _cvat(args.url) as over:
            project = project_of(args.dataset, INGESTED, LABELS, over.key_in(args.project) if args.project else "")
            number = args.project or over.number_of(project.title)
            fetched = cvat_fetching.fetch(over, number, project, args.by or "")
    else:
        _refuse(args, "without --xml", "empty_is_background", "by", "task")
        with _server(args) as server:
            project = project_of(args.dataset, INGESTED, LABELS, server.key_in(args.project) if args.project else "")
            fetched = fetch(server, args.project or server.number_of(project.title), project, args.reviewers)
    for line in write_fetched(LABELS, args.name, project, fetched, layers):
        print(line)


def _refuse(args: argparse.Namespace, when: str, *names: str) -> None:
    """Raise InputError for an option that would say nothing."""
    if given := next((name for name in names if getattr(args, name) not in (None, False, [])), None):
        option = given.removesuffix("s") if given == "reviewers" else given.replace("_", "-")
        raise InputError(f"--{option}: says nothing {when}; expected none")


def _server(args: argparse.Namespace) -> "LabelStudio":
    from pipeline.annotation.label_studio import LabelStudio

    url, token = args.url or os.environ.get("LABEL_STUDIO_URL"), args.token or os.environ.get("LABEL_STUDIO_API_KEY")
    if not url:
        raise InputError("no --url, and no LABEL_STUDIO_URL in the environment; `make label-studio` starts a server")
    if not token:
        raise InputError(
            "no --token, and no LABEL_STUDIO_API_KEY in the environment; Account & Settings of Label Studio has one"
        )
    return LabelStudio(url, token)


def _cvat(url: str | None) -> "Cvat":
    from pipeline.annotation.cvat_server import Cvat

    url, token = url or os.environ.get("CVAT_URL"), os.environ.get("CVAT_ACCESS_TOKEN")
    if not url:
        raise InputError("no --url, and no CVAT_URL in the environment; without a server: --out FOLDER, and --xml FILE")
    if not token:
        raise InputError(f"no CVAT_ACCESS_TOKEN in the environment; {Cvat.tokens}")
    return Cvat(url, token)


def _tagged(params: "Params", dataset: str, tag: str) -> list[str]:
    from pipeline.inspection.app import queued_ids

    runs = [name for name, run in params.runs.items() if run.dataset == dataset]
    return queued_ids(dataset, runs, tag, DATABASE)


def _ids(file: Path | None) -> list[str] | None:
    """One per line of a file, or of what is piped in."""
    if file is None:
        return None
    if str(file) == "-":
        text = sys.stdin.read(MOST_PIPED + 1)
        if len(text) > MOST_PIPED:
            raise InputError(f"--ids -: more than {MOST_PIPED >> 20} million letters were piped in; expected ids")
    else:
        check_size(file)
        text = read_rows(file)
    return [line for line in text.split("\n") if line.strip()]  # an id may end in a blank


def _model(run: str) -> tuple[str, "Predict"]:
    """A run's name with that of its weights, and what predicts with it."""
    from pipeline.annotation.outgoing import certainty
    from pipeline.commands.common import check_made, shown_block
    from pipeline.core.files import sha256
    from pipeline.core.spec import model_folder, read_spec
    from pipeline.evaluation.params import with_predict
    from pipeline.metrics.metrics import judged, shown
    from pipeline.runtimes.answers import predict_samples
    from pipeline.runtimes.on_torch import TorchRuntime

    check_made(run)
    folder = model_folder(Path("models"), run)
    spec = with_predict(read_spec(folder / "model.json"), shown_block(run))
    weights = spec.weights_sha256 or sha256(folder / "model.safetensors")
    runtime = TorchRuntime(folder, None)

    def predict(images: Path, samples: list["Sample"]) -> list[tuple["Sample", float]]:
        return [(shown(p, spec), certainty(p)) for p in predict_samples(runtime, judged(spec), images, samples)]

    return f"{run} {weights[:8]}", predict
