"""What everything else stands on: errors, files, the data model, model.json, base types of params."""

import os as _os

# Libraries read these while they are imported. Without them ONNX Runtime keeps a number of this machine in the home
# folder and sends it, with what it runs, to its makers; MLflow and FiftyOne tell theirs what is called, the hub what
# asks; albumentations asks a package index for a newer version.
for _name, _value in (
    ("ORT_DISABLE_TELEMETRY", "1"),
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("FIFTYONE_DO_NOT_TRACK", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("DVC_NO_ANALYTICS", "1"),
    ("NO_ALBUMENTATIONS_UPDATE", "1"),
):
    _os.environ.setdefault(_name, _value)
