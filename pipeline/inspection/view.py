"""A run in FiftyOne: its test pictures with the truth, the predictions and FiftyOne's own evaluation.

The FiftyOne dataset is a view of files (the ingested test split and the run's predictions) and is made again from
them whenever it is missing or older. FiftyOne keeps it in MongoDB, whose files lie in a folder of the project.
"""

import hashlib
import math
import os
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import Dataset, Object, Sample, read_dataset, read_samples
from pipeline.metrics.metrics import paired

LAYOUT = 1  # of the fields below; another number makes every view stale
FIELDS = {"ground_truth": "#40ff60", "predictions": "#ff60e0"}  # the colours of the sheets
LEAVES_IN = 60  # seconds that a database which is shutting down gets
IDLE_IN = 10  # seconds in which it shuts down when nobody else uses it

_connected: dict[Path, "Future[Any]"] = {}  # database folder -> its service, when it has started


def begin(database: Path) -> Any:
    """The fiftyone module, while its MongoDB starts; `connect`, which waits for that, says the rest."""
    database = database.resolve()
    if _connected and database not in _connected:
        raise InputError(f"{database}: this process already uses the FiftyOne database in {next(iter(_connected))}")
    # FiftyOne knows no other way; services see these too
    os.environ["FIFTYONE_DATABASE_DIR"] = str(database)
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
    import fiftyone as fo

    if not _connected and fo.config.database_uri is None:
        fo.config.database_validation = False  # the mongod that FiftyOne's own wheel carries is old to it
        starter = ThreadPoolExecutor(1)
        _connected[database] = starter.submit(_start, database)
        starter.shutdown(wait=False)
    return fo


def connect(database: Path) -> Any:
    """The fiftyone module, connected to the MongoDB in the folder `database`; starts that if it does not run.

    Processes with the same folder share one mongod, which ends with the last of them. FiftyOne itself would join any
    mongod of the same user, also one that another project or a test has started. With FIFTYONE_DATABASE_URI
    set FiftyOne uses that server instead. Raises InputError if there is no database to be had.
    """
    fo = begin(database)
    database = database.resolve()
    try:
        if database in _connected:
            service = _connected[database].result()
            os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(_port(service, database))
    except InputError:
        del _connected[database]
        raise
    try:
        fo.list_datasets()
    except Exception as error:  # pymongo's, mongoengine's and FiftyOne's own  # noqa: BLE001
        raise InputError(f"FiftyOne finds no database at {fo.config.database_uri or database}: {error}") from None
    return fo


def close() -> None:
    """End the App and leave the database; its mongod ends with the last process that uses it."""
    import fiftyone as fo
    import psutil
    from fiftyone.core.odm import database as odm

    fo.close_app()
    odm._disconnect()  # else FiftyOne waits half a minute for its database when Python exits
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)
    while _connected:
        _, starting = _connected.popitem()
        if starting.exception() is not None:
            continue  # nothing has started
        service = starting.result()
        child, attached = service.child, service.attached
        service.stop()
        if not attached:
            psutil.wait_procs([child], timeout=IDLE_IN)  # longer only if others use it: they keep it alive


def _start(database: Path) -> Any:
    """FiftyOne's database service for this folder, and no other: joined if it runs, else started."""
    import psutil
    from fiftyone.core import service as fos

    class Service(fos.DatabaseService):
        @property
        def _service_args(self) -> list[str]:
            # FiftyOne finds a running service by these words; the folder among them keeps projects apart
            return ["--51-service", self.service_name, "--database", str(database), "--multi"]

        @property
        def command(self) -> list[str]:
            # a few thousand labels: without this the journal takes 300 MB of disk and the cache half the memory
            journal = "log=(prealloc=false,file_max=16MB)"
            return [*super().command, "--wiredTigerEngineConfigString", journal, "--wiredTigerCacheSizeGB", "0.5"]

        def start(self) -> None:
            for process in fos.fosu.find_processes_by_args(self._service_args):
                try:
                    self.attached = fos.fosu.send_ipc_message(process, ("register", os.getpid())) is True
                except OSError:
                    self.attached = False
                if self.attached:
                    self.child = process
                    return
                # its last user has left, and until it is gone it holds the lock on the files
                psutil.wait_procs([process], timeout=LEAVES_IN)
            fos.Service.start(self)

    try:
        database.mkdir(parents=True, exist_ok=True)
        with FileLock(database / "start.lock"):
            service = Service()
            _port(service, database)  # others that wait for the lock find it running
    except fos.ServiceExecutableNotFound:
        raise InputError(
            "FiftyOne's mongod is not installed: install fiftyone-db for this system, "
            "or set FIFTYONE_DATABASE_URI to a MongoDB of your own"
        ) from None
    except OSError as error:
        raise InputError(f"{database}: cannot keep FiftyOne's database here: {error}") from None
    return service


def _port(service: Any, database: Path) -> int:
    from fiftyone.core.service import ServiceListenTimeout

    while service.attached or service.child.poll() is None:
        try:
            return int(service._wait_for_child_port(timeout=1))
        except ServiceListenTimeout:
            continue
    raise InputError(f"{database}: mongod does not start; its last words are in {database / 'log' / 'mongo.log'}")


def name_of(run: str) -> str:
    return f"pocketlens-{run}"


def open_run(run: str, truth_folder: Path, predictions_folder: Path, database: Path) -> Any:
    """The run's FiftyOne dataset: the one in the database if it was made from these files, else made anew.

    Fields: `ground_truth` and `predictions` with FiftyOne's evaluation `eval`, for objects with `..._landmarks` beside
    them; `predictions_all` (detect; hidden in the App at first) also has the objects below the score from which
    they are shown, for mAP. The saved view "mistakes" has what is wrong, `info["figures"]` what FiftyOne found.
    Raises InputError if a file is missing, the two do not belong together or there is no database.
    """
    truth_folder = truth_folder.resolve()
    made_from = _fingerprint(truth_folder, predictions_folder)
    fo = connect(database)
    name = name_of(run)
    with FileLock(database.resolve() / f"{name}.lock"):
        if fo.dataset_exists(name):
            found = fo.load_dataset(name)
            if found.info.get("made_from") == made_from:
                return found
        return _build(fo, name, truth_folder, predictions_folder, made_from)


def inspect_run(run: str, root: Path, database: Path, port: int, remote: bool = False) -> None:
    """Show a run of the project in `root` until the last tab of the App is closed (or Ctrl-C)."""
    predictions = root / "reports" / "evaluate" / run / "predictions"
    if not (predictions / "dataset.json").is_file():
        raise InputError(f"{predictions}: not there; `dvc repro evaluate@{run}` makes it")
    truth = root / "data" / "ingested" / read_dataset(predictions).name / "test"
    try:
        show(open_run(run, truth, predictions, database), port, remote).wait()
    finally:
        close()  # the App before the database: without that it hangs for half a minute


def show(dataset: Any, port: int, remote: bool = False) -> Any:
    """Open the App on 127.0.0.1:`port`, in a browser unless `remote`; returns its session.

    The session's `wait()` blocks until the last tab is closed. Raises InputError if the port is taken: FiftyOne
    would show what it finds there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}; name another one") from None
    import fiftyone as fo

    return fo.launch_app(dataset, port=port, address="127.0.0.1", remote=remote)


def _fingerprint(truth_folder: Path, predictions_folder: Path) -> str:
    """Of all that a view shows; the place of the pictures too, as FiftyOne keeps their paths."""
    digest = hashlib.sha256(f"{LAYOUT} {truth_folder}".encode())
    for file in (
        truth_folder / "metadata.jsonl",
        truth_folder.parent / "dataset.json",
        predictions_folder / "metadata.jsonl",
        predictions_folder / "dataset.json",
    ):
        if not file.is_file():
            raise InputError(f"{file}: no such file; `dvc repro` makes it, `dvc checkout` or `dvc pull` brings it back")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _build(fo: Any, name: str, truth_folder: Path, predictions_folder: Path, made_from: str) -> Any:
    info = read_dataset(truth_folder.parent)
    source = read_json(predictions_folder / "dataset.json")["source"]
    truth, predicted = paired(read_samples(truth_folder), read_samples(predictions_folder))
    view = fo.Dataset(name, persistent=True, overwrite=True)
    classify = source["task"] == "classify"
    samples = []
    for t, p in zip(truth, predicted, strict=True):
        labels = _classified(fo, t, p) if classify else _with_objects(fo, t, p, source, info)
        known = {k: v for k, v in {"name": t.id, "group": t.group, "clip": t.clip, **labels}.items() if v is not None}
        sample = fo.Sample(truth_folder / t.file_name, tags=[t.split] if t.split else [], **known)
        sample.metadata = fo.ImageMetadata(width=t.width, height=t.height)
        samples.append(sample)
    view.add_samples(samples)
    _set_up_app(fo, view, info)
    figures = _evaluate(fo, view, source["task"], info, predicted)
    # written last: a view that was cut short has none and is made anew
    view.info = {"figures": figures, "made_from": made_from, "source": source}
    view.save()
    return view


def _classified(fo: Any, truth: Sample, predicted: Sample) -> dict[str, Any]:
    confidence = (predicted.scores or {}).get(str(predicted.label))
    return {
        "ground_truth": fo.Classification(label=truth.label),
        "predictions": fo.Classification(label=predicted.label, confidence=confidence),
    }


def _with_objects(fo: Any, truth: Sample, predicted: Sample, source: dict[str, Any], info: Dataset) -> dict[str, Any]:
    above = [o for o in predicted.objects if (o.score or 0) >= source["shown"]]
    fields = {}
    for field, objects in (("ground_truth", truth.objects), ("predictions", above)):
        fields[field] = _detections(fo, objects)
        if info.landmarks:
            points = [_keypoint(fo, o) for o in objects if o.landmarks]
            fields[f"{field}_landmarks"] = fo.Keypoints(keypoints=points)
    return fields


def _detections(fo: Any, objects: list[Object]) -> Any:
    return fo.Detections(
        detections=[
            fo.Detection(label=o.label, bounding_box=list(o.box), confidence=o.score, iscrowd=o.crowd) for o in objects
        ]
    )


def _keypoint(fo: Any, o: Object) -> Any:
    gone = (math.nan, math.nan)
    return fo.Keypoint(label=o.label, points=[(p.x, p.y) if p.visibility else gone for p in o.landmarks])


def _set_up_app(fo: Any, view: Any, info: Dataset) -> None:
    """Truth and predictions in the colours of the sheets, landmarks named and joined."""
    colours = dict(FIELDS)
    if view.has_field("ground_truth_landmarks"):
        points = {f"{field}_landmarks": colour for field, colour in FIELDS.items()}
        skeleton = fo.KeypointSkeleton(labels=info.landmarks, edges=[list(pair) for pair in info.skeleton])
        view.skeletons = dict.fromkeys(points, skeleton)
        colours |= points
    view.app_config.color_scheme = fo.ColorScheme(
        color_by="field", fields=[{"path": field, "fieldColor": colour} for field, colour in colours.items()]
    )
    view.app_config.active_fields = fo.ActiveFields(paths=list(colours), exclude=False)


def _evaluate(fo: Any, view: Any, task: str, info: Dataset, predicted: list[Sample]) -> dict[str, float | None]:
    """FiftyOne's figures, the saved view "mistakes" and the field `predictions_all`."""
    if not predicted:
        return {}
    at = fo.ViewField
    if task == "classify":
        results = view.evaluate_classifications("predictions", eval_key="eval", classes=info.labels)
        view.save_view("mistakes", view.match(at("eval") == False))  # noqa: E712
    else:
        results = view.evaluate_detections("predictions", eval_key="eval", classes=info.labels)
        view.save_view("mistakes", view.match((at("eval_fp") > 0) | (at("eval_fn") > 0)))
    figures = {k: _defined(v) for k, v in results.metrics().items()}
    if task == "detect":
        # last and without an evaluation key: FiftyOne takes milliseconds to read or write one such object
        view.set_values("predictions_all", [_detections(fo, p.objects) for p in predicted])
        needed = view.select_fields(["ground_truth", "predictions_all"])
        results = needed.evaluate_detections("predictions_all", classes=info.labels, compute_mAP=True)
        figures["mAP"] = _defined(results.mAP())
    return figures


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) and value >= 0 else None
