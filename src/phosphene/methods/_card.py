"""The model card that is saved beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phosphene.methods._decoder import Decoder


def card(decoder: Decoder, config: Mapping[str, Any]) -> str:
    """Text of README.md for a fitted decoder.

    Parameters
    ----------
    decoder : Decoder
        Fitted decoder.
    config : mapping
        Contents of its config.json.

    Returns
    -------
    str
        Markdown: what it is, what it was trained on, what it takes, how to load it, its limits.
    """
    training = decoder.training_
    # A class of the user's own may have no docstring.
    summary = (type(decoder).__doc__ or type(decoder).__name__).strip().partition("\n")[0]
    shape = str(decoder.n_chans_)
    if decoder.n_times_ is not None:
        shape += f" x {decoder.n_times_}"
    rate = f", {decoder.sfreq_:g} Hz" if decoder.sfreq_ else ""
    encoder = training["image_encoder"] or training["text_encoder"] or "undeclared vectors"
    facts = {
        "data": training["dataset"],
        "subjects": ", ".join(training["subjects"]) or "unknown",
        "training trials": f"{training['n_train_trials']} of {len(decoder.train_stimuli_)} stimuli "
        f"and {len(decoder.train_concepts_)} concepts",
        "fingerprint of the data": training["train_fingerprint"],
        "input": f"{decoder.modality_}, {shape}{rate}",
        "target": f"{encoder}, layer {decoder.layer_}, views {', '.join(decoder.views_)}",
        "target space": decoder.space_,
        "selection": f"{training['selection']} (validation: {training['validation']})",
        "trained with": f"phosphene {training['library_version']}, {training['device']}, "
        f"{training['precision']}, seed {decoder.random_state}, {training['seconds']:.0f} s",
    }
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    params = json.dumps(config["params"], indent=1)
    return f"""---
library_name: phosphene
tags:
- brain-decoding
- {decoder.modality_}
---

# {config["method"]}

{summary}

| | |
|---|---|
{rows}

```python
import phosphene as ph

decoder = ph.{type(decoder).__name__}.from_pretrained("this folder")
result = decoder.evaluate(test, gallery=bank)
```

Parameters:

```json
{params}
```

## Limits

A decoder of this kind knows the people, the sensors and the kind of pictures that it was trained
on. It ranks candidates that it is given; it does not read thoughts, and a score is worth what its
protocol says. Use it on recordings of people who agreed to this use.
"""
