"""Where each stage's output lies in the run folder."""

from __future__ import annotations

CONFIG = "config.json"
CLIPS = "clips"
CLIPS_FILE = "clips/clips.parquet"
LABELS = "labels"
LABELS_FILE = "labels/labels.parquet"
PREPARATION = "prepare"  # of a preparation under way: tables divided by scene, the ledger of finished scenes
VERIFICATION = "verify/report.json"
LABELS_IN = "labels_in"
FEATURES = "features"
FEATURES_FILE = "features/features.parquet"
START_MODEL = "features/start_model"
FEATURE_PARTS = "feature_parts"
DECODER = "decoder.json"  # of the pool's images, where it was measured
QUARANTINE = "quarantine.json"
LOCK = "driver.lock"
REPORT = "report/index.html"


def round_folder(number: int) -> str:
    return f"rounds/{number:02d}"


def scores(number: int) -> str:
    return f"{round_folder(number)}/scores"


def scores_file(number: int) -> str:
    return f"{scores(number)}/scores.parquet"


def score_parts(number: int) -> str:
    """The ledger of a scoring stage under way: one file for each batch of clips that is done."""
    return f"{round_folder(number)}/score_parts"


def selection(number: int) -> str:
    return f"{round_folder(number)}/selection"


def selection_file(number: int) -> str:
    return f"{selection(number)}/selection.parquet"


def label_request(number: int) -> str:
    return f"{selection(number)}/label_request.json"


def labels_out(number: int, tool: str) -> str:
    """A round's label request as files of an annotation tool."""
    return f"{round_folder(number)}/labels_out/{tool}"


def label_check(number: int) -> str:
    """What the round's model finds suspicious in labels."""
    return f"{round_folder(number)}/label_check.json"


def model(number: int) -> str:
    return f"{round_folder(number)}/model"


def adopted_model(number: int) -> str:
    """A model from outside the run, with which round `number`'s scores were made."""
    return f"{round_folder(number)}/adopted_model"


def train_storage(number: int) -> str:
    """Ray Train's own folder: checkpoints of the training under way."""
    return f"{round_folder(number)}/train"


def expected(model_key: str) -> str:
    """Is there while somebody waits for the model at `model_key` and the training that will publish it goes on."""
    return f"{model_key}_expected.json"


def train_progress(number: int) -> str:
    """Steps done and the last loss of the training under way, for the driver's progress bar."""
    return f"{round_folder(number)}/training.json"


def train_work(number: int) -> str:
    """What workers that got ready before the round's clips were chosen shall train on."""
    return f"{round_folder(number)}/training_work.json"


def train_error(number: int) -> str:
    """The sentence of an `InputError` that ended the training: retrying would meet it again."""
    return f"{round_folder(number)}/training_error.json"


def evaluation(number: int) -> str:
    return f"{round_folder(number)}/evaluation"


def model_evaluation(model_version: str) -> str:
    """The evaluation of a model from outside the run."""
    return f"evaluations/{model_version}"


def evaluated_model(model_version: str) -> str:
    """That model, where all workers see it, while it is evaluated."""
    return f"{model_evaluation(model_version)}/model"


SERVING = "serving"  # the registry of models that the scoring service follows
PROMOTIONS = "serving/promotions.json"
CALIBRATION_SET = "serving/calibration_set.json"  # the clips, the same for all models


def promoted_model(model_version: str) -> str:
    """A model from outside the run that was promoted; a round's own stays where it is."""
    return f"serving/models/{model_version}"


def calibration(model_version: str) -> str:
    """The scores of the calibration set by this model."""
    return f"serving/calibrations/{model_version}.parquet"


def calibration_parts(model_version: str) -> str:
    """The ledger of a calibration under way."""
    return f"serving/calibration_parts/{model_version}"


INTAKE = "intake"  # what the scoring service took into the pool
INTAKE_CLIPS = "intake/clips"


def intake_clip(digest: str) -> str:
    """One clip's row, by its content."""
    return f"{INTAKE_CLIPS}/{digest}.parquet"


INTAKE_SCORES = "intake/scores"  # what the service answered when each of them came, for people to look at


def intake_score(digest: str) -> str:
    return f"{INTAKE_SCORES}/{digest}.json"
