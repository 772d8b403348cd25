"""What `serve run` and `serve deploy` build: typed arguments, the model's folder, the configuration file."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.schema import ServeDeploySchema

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.storage import Store
from serve.app import build, read_arguments
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
            build({})

    @pytest.mark.parametrize(
        ("args", "sentence"),
        [
            ({"surprise": "1"}, "Unknown configuration key surprise."),
            ({"intake.surprise": "1"}, "Unknown configuration key intake.surprise."),
            ({"replicas": "many"}, "Configuration key replicas: input should be a valid integer"),
            ({"replicas": "0"}, "Configuration: replicas: 0 needs max_replicas"),
            ({"intake": "yes"}, "Configuration key intake: "),
            ({"intake": "yes", "intake.enabled": "true"}, "intake is given twice: as a whole, and by intake.enabled."),
            ({"intake.enabled": "true", "intake": {}}, "intake is given twice: as a whole, and key by key."),
        ],
    )
    def test_wrong_arguments_end_in_one_sentence(self, args: dict[str, str], sentence: str):
        with pytest.raises(click.ClickException, match=f"^{re.escape(sentence)}") as caught:
            call_user_app_builder_with_args_if_necessary(build, {"run_dir": "x", **args})
        assert "\n" not in str(caught.value)

    def test_arguments_of_the_command_line_are_texts(self):
        config = read_arguments({"run_dir": "x", "replicas": "2", "intake.enabled": "true"})
        assert (config.run_dir, config.replicas, config.intake.enabled) == ("x", 2, True)

    def test_config_file_is_one_that_serve_deploy_takes(self, repository: Path):
        config = ServeDeploySchema.model_validate(yaml.safe_load((repository / "serve" / "config.yaml").read_text()))
        (application,) = config.applications
        assert application.import_path == "serve.app:build"
        assert ServeConfig(**application.args).run_dir == "runs/demo"
