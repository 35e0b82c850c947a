"""Personal data and secrets: detectors (`core`), and a model that finds names (`name_models`)."""
