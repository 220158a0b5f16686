"""python -m stages.verify RUN: the exported files on the test split, held to the float model -> reports/verify/RUN/."""

from pathlib import Path

from pipeline.core.resolved import Resolved
from pipeline.core.spec import read_spec
from pipeline.verification.params import VerifyParams
from stages import run


def verify(name: str) -> str:
    exports = Path("exports") / name
    params = Resolved().block(VerifyParams, "runs", name, "verify")
    from pipeline.verification.verify import verify_run

    return verify_run(
        exports=exports,
        evaluated=Path("reports/evaluate") / name,
        truth_folder=Path("data/ingested") / read_spec(exports / "model.json").dataset / "test",
        report=Path("reports/verify") / name,
        params=params,
    )


if __name__ == "__main__":
    run(verify)
