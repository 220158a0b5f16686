"""What libraries tell their makers is turned off before they are imported: they read these variables then.

Without them ONNX Runtime keeps a number of this machine in the home folder and sends it, with what it runs; MLflow and
FiftyOne tell what is called, the hub what asks.
"""

import os

OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FIFTYONE_DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
}


def turn_off() -> None:
    """Set the variables that are not set: who wants a library to tell says so in the environment.

    >>> turn_off()
    >>> all(name in os.environ for name in OFF)
    True
    """
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
