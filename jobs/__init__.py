"""One thin module per thing a user submits: parse, one stage call, print where the result is."""
