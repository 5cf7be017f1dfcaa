"""One contract, two guests: what the real guest does, the scripted one must do to the letter."""
