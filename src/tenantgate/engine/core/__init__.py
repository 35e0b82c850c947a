"""Pure parts of the engine: the tables exchanged with Kong, the choice of the model, the list of models."""
