"""A model from outside the run, such as an imported checkpoint, in the place of a round's own."""

from __future__ import annotations

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import CARD, WEIGHTS, read_card
from sead_ray.storage import Store


def adopt_model(run: Store, model_dir: str, key: str, image: ImageConfig) -> None:
    """Copies the model in `model_dir` to the run's folder `key`, where all workers see it; the card last.

    Raises:
        InputError: there is no model, or it expects images that the run does not give it.
    """
    source = Store(model_dir)
    card = read_card(source, CARD)
    expected = card.get("info", {}).get("image") or {}
    for name, given in image.model_dump().items():
        if name in expected and expected[name] != given:
            raise InputError(
                f"The model in {source.root} was made for image.{name} {expected[name]}, but the run has {given}: "
                f"set --image.{name} {expected[name]}."
            )
    run.write_bytes(f"{key}/{WEIGHTS}", source.read_bytes(WEIGHTS))
    run.write_bytes(f"{key}/{CARD}", source.read_bytes(CARD))
