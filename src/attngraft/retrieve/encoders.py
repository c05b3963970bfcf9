"""Encoders by what they read: texts or images."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attngraft._core import plugins
from attngraft._core.checks import known_options
from attngraft._core.errors import CheckpointError, OptionError, first_line
from attngraft.retrieve.keys import Encoder, Json, Kind


def encoder_of(kind: Kind, model: Any, **options: Any) -> Encoder:
    """Make an encoder.

    Args:
        kind: What its items are.
        model: What to load, or an encoder, which is taken as it is.
        **options: Those of `TextEncoder` or `ImageEncoder`.

    Raises:
        OptionError: If there is no such option, the model has no heads, or the encoder reads another kind.
    """
    if hasattr(model, "fingerprint") and hasattr(model, "keys"):
        if options:
            raise OptionError(f"{next(iter(options))} is an option of a model, got an encoder; give it to the encoder")
        if model.kind != kind:
            raise OptionError(f"the items are {kind}, and the encoder reads {model.kind}; give another encoder")
        return model
    if isinstance(model, (str, Path)) and os.path.exists(model):
        model = str(Path(model).absolute())  # an index is opened from other folders too
    made = _class(kind)
    known_options(made.__name__, options, list(inspect.signature(made).parameters)[1:])
    return made(model, **options)


def _class(kind: Kind) -> Any:
    if kind == "images":
        from attngraft.retrieve.images import ImageEncoder

        return ImageEncoder
    from attngraft.retrieve.text import TextEncoder

    return TextEncoder


def rebuilt(description: Mapping[str, Json], model: Any = None) -> Encoder:
    """Make the encoder of an index again.

    A model that the description alone names is read as data, as under safe loading: whoever searches an index has not
    said that its model may run anything.

    Args:
        description: What `Encoder.describe` said.
        model: The model, where it is not what the description names: it was moved, or never had a name.

    Raises:
        CheckpointError: If the description's model is not there, or is more than data.
    """
    options = {key: value for key, value in description.items() if key not in ("kind", "model")}
    kind: Kind = "images" if description.get("kind") == "images" else "text"
    if hasattr(model, "fingerprint") and hasattr(model, "keys"):
        return encoder_of(kind, model)
    if model is not None:
        return encoder_of(kind, model, **options)
    named = description["model"]
    with plugins.as_data():
        try:
            return encoder_of(kind, named, **options)
        except (CheckpointError, TypeError) as error:  # Ultralytics says by a TypeError what it refuses
            raise CheckpointError(
                f"{named}, which the index names, cannot be opened as data ({first_line(error)}); name the model "
                "yourself with model= if you trust it"
            ) from error
