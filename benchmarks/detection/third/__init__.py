"""The detection benchmark's third part and the development models that the method's third version is tuned on."""
