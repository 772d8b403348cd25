"""What `serve run` and `serve deploy` build: typed arguments, the model's folder, the configuration file."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import pytest
import yaml
from pydantic import ValidationError
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.schema import ServeDeploySchema

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.storage import Store
from serve.app import build
from serve.scorer import find_model, model_info


class TestPickingTheModel:
    def test_newest_published_round(self, served_run: Store):
        assert find_model(ServeConfig(run_dir=served_run.root)) == served_run.path(layout.model(1))

    def test_a_models_folder(self, model_dir: str):
        assert find_model(ServeConfig(model_dir=model_dir)) == model_dir

    @pytest.mark.parametrize("args", [{}, {"run_dir": "a", "model_dir": "b"}])
    def test_one_of_two_is_needed(self, args: dict[str, str]):
        with pytest.raises(InputError, match=r"^Set run_dir .* or model_dir .*\.$"):
            find_model(ServeConfig(**args))

    def test_nothing_there(self, tmp_path: Path, served_run: Store):
        with pytest.raises(InputError, match="no published model"):
            find_model(ServeConfig(run_dir=str(tmp_path)))
        with pytest.raises(InputError, match=r"model\.json does not exist"):
            find_model(ServeConfig(model_dir=str(tmp_path)))

    def test_a_card_without_settings(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"cannot be served: its info needs"):
            model_info({"model_version": "v", "size": {"preset": "vad_nano"}, "info": {}}, 1, str(tmp_path))

    def test_the_builder_says_it_in_one_sentence(self):
        with pytest.raises(click.ClickException, match=r"^Set run_dir .*\.$"):
            build(ServeConfig())

    def test_builder_arguments_are_typed(self):
        """Serve reads the annotation: a string would leave the arguments an unchecked dict."""
        (parameter,) = inspect.signature(build).parameters.values()
        assert parameter.annotation is ServeConfig
        with pytest.raises(ValidationError, match="surprise"):
            call_user_app_builder_with_args_if_necessary(build, {"run_dir": "x", "surprise": "1"})

    def test_config_file_is_one_that_serve_deploy_takes(self, repository: Path):
        config = ServeDeploySchema.model_validate(yaml.safe_load((repository / "serve" / "config.yaml").read_text()))
        (application,) = config.applications
        assert application.import_path == "serve.app:build"
        assert ServeConfig(**application.args).run_dir == "runs/demo"
