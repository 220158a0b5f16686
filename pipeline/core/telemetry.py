"""What libraries tell their makers is turned off by importing this, before them: they read these variables then.

Without them ONNX Runtime keeps a number of this machine in the home folder and sends it, with what it runs; MLflow and
FiftyOne tell what is called, the hub what asks.
"""

import os

for name, value in (
    ("ORT_DISABLE_TELEMETRY", "1"),
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("FIFTYONE_DO_NOT_TRACK", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("DVC_NO_ANALYTICS", "1"),
):
    os.environ.setdefault(name, value)
