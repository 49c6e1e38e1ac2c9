"""The live view of a function in a terminal: what a log says, as a picture, with keys. Decides nothing."""
