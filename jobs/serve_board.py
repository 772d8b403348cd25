"""Shows all runs below a folder as live web pages: rounds in progress, reports, models to promote, clips of the fleet.

Reading needs no token on this machine's own address; promoting a model always needs one with scope admin.
"""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import BoardConfig


def plan(config: BoardConfig) -> str:
    scheme = "https" if config.tls_cert else "http"
    who = f"the holders of tokens in {config.tokens_file}" if config.tokens_file else "readers on this machine"
    return f"Would show the runs below {config.runs_dir} at {scheme}://{config.host}:{config.port}/ to {who}."


def job(config: BoardConfig) -> str | None:
    from serve.board.server import run_board

    run_board(config)
    return None


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BoardConfig, prog="python -m jobs.serve_board")
