"""Makes a bearer token for the scoring service: prints it once, and appends its hash to the tokens file.

Nobody can print it again. To revoke it, remove its line; a running service stops taking it within 5 seconds.
"""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import Schema
from sead_ray.tokens import Scope, append_grant, new_token


class MakeTokenConfig(Schema):
    tokens_file: str = "tokens.txt"
    """The file that the service reads (its `tokens_file`)."""
    scope: Scope = "score"
    """score: sends clips; admin: also sees everybody's jobs and sessions."""
    name: str = "client"
    """Who holds the token; logs show it, and it must be new in the file."""


def plan(config: MakeTokenConfig) -> str:
    return f"Would print a new token with scope {config.scope} and append its hash to {config.tokens_file}."


def job(config: MakeTokenConfig) -> str:
    token, grant = new_token(config.scope, config.name)
    append_grant(config.tokens_file, grant)
    return token


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=MakeTokenConfig, prog="python -m jobs.make_token")
