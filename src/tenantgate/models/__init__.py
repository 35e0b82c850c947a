"""Language models: weights, their int8 ONNX form, inference, language identification."""
