"""Run one run's exported files on its test split. Usage: python -m stages.verify RUN."""

from pathlib import Path

from pipeline.config.params import Params
from stages import run


def verify(params: Params, name: str) -> str:
    settings = params.run(name)
    from pipeline.verification.verify import verify_run

    return verify_run(
        exports=Path("exports") / name,
        evaluated=Path("reports/evaluate") / name,
        truth_folder=Path("data/ingested") / settings.dataset / "test",
        report=Path("reports/verify") / name,
        params=settings.export,
    )


if __name__ == "__main__":
    run(verify)
