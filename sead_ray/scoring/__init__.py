"""From a base model's outputs to one `ClipScore`: feature shift (Eq. 2, 3) and key frames (Eq. 4). No labels."""
